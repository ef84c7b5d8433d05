"""What NVRTC makes of the kernels, PTX, as C++ for the simulator: instruction by instruction.

The simulator compiles the sources themselves, by another compiler and without their inline PTX.
Here the text runs that a card would be given, with NVRTC's order of the instructions, its places in
shared memory and its alignments (``ptx_sim.h``).
"""

import re
from itertools import zip_longest

_TYPES = {
    "pred": "bool",
    "b16": "uint16_t",
    "b32": "uint32_t",
    "u32": "uint32_t",
    "f32": "float",
    "b64": "uint64_t",
    "u64": "uint64_t",
    "f64": "double",
}
_SPECIAL = {"ctaid": "blockIdx", "nctaid": "gridDim", "tid": "threadIdx", "ntid": "blockDim"}
_KERNEL = re.compile(r"^\.visible \.entry (\w+)\((.*?)\).*?^\{(.*?)^\}", re.M | re.S)
_FUNCTION = re.compile(
    r"^\.func\s*\(\.param \.(\w+) (\w+)\)\s*(\w+)\s*\((.*?)\)\s*(?:;|\{(.*?)^\})", re.M | re.S
)
_SHARED = re.compile(r"(\.extern )?\.shared \.align (\d+) \.b8 (\w+)\[(\d*)\];")
_STATEMENT = re.compile(r"(?:@(!?)%(\w+)\s+)?(\S+)\s*(.*);", re.S)
_CALL = re.compile(r"\((\w+)\),\s*(\w+),\s*(\(.*\))", re.S)


def to_cpp(ptx, pointers):
    """Translate a PTX module; ``pointers[kernel]`` tells which of its parameters are pointers."""
    text = re.sub(r"//.*", "", ptx)
    dynamic = [found for found in _SHARED.findall(text) if found[0]]
    parts = []
    for kind, result, name, parameters, body in _FUNCTION.findall(text):
        of_result = f"{_TYPES[kind]} {result};"
        rest = _body(body, of_result, f"return {result};") if body else ";"
        parts.append(f"static {_TYPES[kind]} {name}({_parameters(parameters)}){rest}")
    for name, parameters, body in _KERNEL.findall(text):
        symbols, size = _symbols([*_SHARED.findall(body), *dynamic])
        parts.append(f'extern "C" const size_t static_bytes_{name} = {size};')
        head = f"static void {name}({_parameters(parameters, pointers[name])})"
        parts.append(head + _body(_SHARED.sub("", body), symbols, "return;"))
    return "\n".join(parts)


def _parameters(text, pointers=()):
    found = re.findall(r"\.param (?:\.align \d+ )?\.(\w+) (\w+)", text)
    return ", ".join(
        f"{'char*' if pointer else _TYPES[kind]} {name}"
        for (kind, name), pointer in zip_longest(found, pointers)
    )


def _symbols(arrays):
    """Constants, where each array of shared memory lies, and the bytes of those of a known size."""
    lines, place = [], 0
    for _, align, name, size in arrays:
        place += -place % int(align)
        lines.append(f"const uint32_t {name} = WINDOW + {place};")
        place += int(size or 0)
    return " ".join(lines), place


def _body(text, declarations, leave):
    """A function's body: C++ in as many lines as there are statements."""
    lines, statement = ["{", declarations], ""
    for line in filter(None, map(str.strip, text.splitlines())):
        statement += " " + line
        if line in "{}" or line.endswith((";", ":")):
            lines.append(_translated(statement.strip(), leave))
            statement = ""
    assert not statement, f"no end of a statement: {statement}"
    return "\n".join([*lines, "}"])


def _translated(statement, leave):
    if statement in "{}":
        return statement
    if statement.endswith(":"):
        return _operands(statement) + ";"
    unless, predicate, name, operands = _STATEMENT.fullmatch(statement).groups()
    if name == ".pragma":
        return ""
    if name in (".reg", ".param"):
        return _declaration(operands)
    condition = f"if ({'!' * bool(unless)}{predicate}) " if predicate else ""
    return condition + _instruction(name, operands, leave)


def _declaration(text):
    kind, names = re.fullmatch(r"\.(\w+)\s+(.*)", text).groups()
    found = re.fullmatch(r"%(\w+)<(\d+)>", names)
    every = [f"{found[1]}{i}" for i in range(int(found[2]))] if found else [_operands(names)]
    return f"{_TYPES[kind]} {', '.join(every)};"


def _instruction(name, operands, leave):
    if name in ("bra", "bra.uni"):
        return f"goto {_operands(operands)};"
    if name == "ret":
        return leave
    if name == "call.uni":
        result, function, arguments = _CALL.fullmatch(operands).groups()
        return f"{result} = {function}{arguments};"
    operands = _operands(operands)
    if name.startswith(("ld.param.", "st.param.")):
        to, value = operands.replace("+0", "").split(",")
        return f"{to} = ptx_bits<decltype({to})>({value});"
    return f"ptx_{re.sub('[.:]+', '_', name)}({operands});"


def _operands(text):
    """Registers, constants and addresses as C++ says them; brackets and braces fall away."""
    text = re.sub(r"%(\w+)\.([xyz])", lambda found: f"{_SPECIAL[found[1]]}.{found[2]}", text)
    text = re.sub(r"\b0f([0-9A-F]{8})\b", r"ptx_float(0x\1)", text)
    text = re.sub(r"\b0d([0-9A-F]{16})\b", r"ptx_double(0x\1)", text)
    return re.sub(r"[%\[\]{}]", "", text).replace("|", ", ")
