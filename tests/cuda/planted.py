"""Bugs for the sources of the kernels: what a hand slips on when it writes them.

Each is text that stands in a source, and what stands there instead.
"""

GROUP_NORM = {
    "sums are added before all are there": (
        "  __syncthreads();\n  while (rows > 1)",
        "  while (rows > 1)",
    ),
    "no barrier between two rounds of a tree": (
        "table[half * width + i];\n    __syncthreads();",
        "table[half * width + i];",
    ),
    "an odd row is lost": ("int half = (rows + 1) / 2;", "int half = rows / 2;"),
    "the last slab is not added": ("slab < gridDim.x;", "slab < gridDim.x - 1;"),
    "a slab reads on into the next image": (
        "min(s.first + slab_pixels, pixels)",
        "s.first + slab_pixels",
    ),
    "pixels are left out": ("p += s.rows", "p += s.rows + 1"),
    "the mean is not subtracted": ("(x - pivot[i] - offset[i])", "(x - pivot[i])"),
    "the variance is about the pivot": ("mean.y - mean.x * mean.x", "mean.y"),
    "one pivot for four channels": (
        "s, c + i, pivot_pixel",
        "s, c, pivot_pixel",
    ),
    "moments are read before they are written": (
        "  __syncthreads();\n  if (blockIdx.x == 0)",
        "  if (blockIdx.x == 0)",
    ),
    "the weight is forgotten in a group's sums": (
        "table, g, s, weight)",
        "table, g, s, nullptr)",
    ),
    "dx without its last term": (" - x_hat * mean[i].y", ""),
    "the derivative of another function": ("h * (1.0f - s)", "h"),
    "a channel's sums go to the wrong slab": (
        "(blockIdx.x * gridDim.y + blockIdx.y) * 2",
        "blockIdx.y * 2",
    ),
}

WHOLE_NORM = {
    "moments of one slab are read too early": GROUP_NORM[
        "moments are read before they are written"
    ],
    "sums of one slab are taken for means": (
        "moments_of(mean_of(over_group(table, g, s, nullptr), s)",
        "moments_of(over_group(table, g, s, nullptr)",
    ),
    "means of one slab are read before they are written": (
        "  __syncthreads();\n  for (int c = s.channel; c < s.channels; c += s.stride) {\n"
        "    Channel<const X> of_x = channel_of(x, x_rest, s, c);\n    const DY* of_dy",
        "  for (int c = s.channel; c < s.channels; c += s.stride) {\n"
        "    Channel<const X> of_x = channel_of(x, x_rest, s, c);\n    const DY* of_dy",
    ),
    "the weight is forgotten in one slab's means": (
        "mean_of(over_group(table, g, s, weight)",
        "mean_of(over_group(table, g, s, nullptr)",
    ),
    "both tables in one place": ("(mine + groups + groups % 2)", "mine"),
    "both backward tables in one place": ("(means + groups + groups % 2)", "means"),
}

MODULATED_NORM = {
    "the weight of the first image": ("own = to_next * blockIdx.y;", "own = 0;"),
    "the slabs of an image side by side": (
        "blockIdx.x * gridDim.y + blockIdx.y",
        "blockIdx.y * gridDim.x + blockIdx.x",
    ),
    "means of the weight of the first image": ("weight[s.own + c] : 1", "weight[c] : 1"),
}

JOINED_NORM = {
    "a pivot for every channel of a group": ("c / s.per_group * s.per_group)", "c)"),
    "rows as wide as the first part": ("split : s.channels - s.split;", "split : s.split;"),
    "the second part from its beginning": ("pixel * width + c - s.split,", "pixel * width,"),
    "the second part of the image before": ("rest + pixel * width", "rest"),
    "a residual of other channels": ("residual + s.image + c", "residual + s.image"),
    "no residual": ("+ other.at[i];", ";"),
}

JOINED_OPERAND = {
    "what lies across the border is of the first": ("i < split ? row[i] :", "i < c ? row[i] :"),
    "the second part begins too late": ("rest[i - split]", "rest[i]"),
    "a second part from its middle": ("load(v, rest, channel - split,", "load(v, rest, channel,"),
    "the second part is as wide as the first": (
        "x_rest + (size_t)row * (c - split)",
        "x_rest + (size_t)row * split",
    ),
    "the last channel of float32 is lost": (
        "if (channel + e < c) row",
        "if (channel + e < c - 1) row",
    ),
}

NORM_FOR_A_PRODUCT = {
    "bf16 is cut off and not rounded": (
        "{ return to_bf16(x); }",
        "{ return __float_as_uint(x) >> 16; }",
    ),
    "tf32 is not rounded": ("{ return to_tf32(x); }", "{ return __float_as_uint(x); }"),
}

BETWEEN = {
    "the sums of dx lie image by image": (
        "dx_sums += (size_t)(blockIdx.x * gridDim.y + blockIdx.y)",
        "dx_sums += (size_t)(blockIdx.y * gridDim.x + blockIdx.x)",
    ),
    "the sums of dx are those of one row": (
        "add_rows(table, s.rows, s.channels);",
        "__syncthreads();",
    ),
    "the sums of dx begin anew with every pixel": ("sum.at[i] += d.at[i];", "sum = d;"),
    "the sums of dx lack the residual": (
        "sum.at[i] += d.at[i];",
        "sum.at[i] += d.at[i] - other.at[i];",
    ),
    "the sums of dx are those of a thread's first channels": (
        "if (SUMS) store(",
        "if (SUMS && c == s.channel) store(",
    ),
}

DROPOUT = {
    "the last values are lost": ("i < size; i++", "i < size - 1; i++"),
    "the mask of the next value": ("kept.at[i] ?", "kept.at[(i + 1) % 4] ?"),
    "what is kept is not scaled": ("(to_float(x) * scale)", "(to_float(x))"),
}

ATTENTION = {
    "what was added is not scaled": ("result[j][i] *= rescale;", ";"),
    "the total is not scaled": ("total[half] *= rescale;", ""),
    "each lane has a largest score of its own": ("quad_max(most)", "most"),
    "keys beyond the last take part": ("inside ? p[j][i] * scale : NEVER", "p[j][i] * scale"),
    "lse is the largest score": ("largest[half] + log2f(total[half])", "largest[half]"),
    "a tile is overwritten while others read it": ("CHUNK));\n    __syncthreads();", "CHUNK));"),
    "a tile is read before it is there": (
        "    __syncthreads(); // everyone's part of this stage is there\n",
        "",
    ),
    "the matrix is read before it is there": (
        "    __syncthreads(); // everyone's part of this chunk is there\n",
        "",
    ),
    "waits for the tiles before": ("copy_wait<1>", "copy_wait<2>"),
    "fills the stage in use": ("copy(1 - stage, c", "copy(stage, c"),
    "no empty group at the end": ("    }\n    copy_commit();", "    copy_commit();}"),
    "the stride of the other tile": (
        "columns + 8 * j * LD_ROWS",
        "columns + 8 * j * LD_MATRIX",
    ),
    "two halves of an operand exchanged": (
        "lane / 8 % 2 * 4",
        "(1 - lane / 8 % 2) * 4",
    ),
    "delta is forgotten": ("dp[j][i] - (inside ? pass.delta[query] : 0.0f)", "dp[j][i]"),
    "lse of the neighbour": ("- pass.lse[query])", "- pass.lse[query ^ 1])"),
    "ds is not divided by the root of D": (" * derivative_scale;", ";"),
    "all heads are the first": ("number() * head", "0 * head"),
    "the gradient of v is that of k": ("which == 1", "which >= 1"),
}

BATCH = {
    "images of the step before": ("(step - 1) * batch", "step * batch"),
    "mirrored about the wrong column": ("width - 1 - 2 * column", "width - 2 * column"),
    "v with the other sign": ("- noise[t] * clean", "+ noise[t] * clean"),
    "the same noise for every image": ("normals(philox(block, place,", "normals(philox(block, 0,"),
}

LOSS = {
    "v reaches the gradient twice": ("per_nat * 0.5f * (c[5]", "per_nat * (c[5]"),
    "the variance's gradient forgets the means": (
        "-0.5f * (expm1f(ratio) + square)",
        "-0.5f * expm1f(ratio)",
    ),
    "a loss is read before all of it is there": (
        "= x;\n  __syncthreads();\n  x = 0;",
        "= x;\n  x = 0;",
    ),
}

GRADIENTS = {
    "the last part is forgotten": ("p < one.number; p++", "p < one.number - 1; p++"),
    "what other warps found is read too early": (
        "= sum;\n    __syncthreads();\n    if (warp",
        "= sum;\n    if (warp",
    ),
    "what was found is overwritten while it is read": (
        "    __syncthreads(); // what was found is read\n",
        "",
    ),
    "one warp's sum is lost": ("other < 8; other++", "other < 7; other++"),
    "parts side by side": ("p * one.distance + i];\n    }", "p * one.count + i];\n    }"),
    "squares of the parts": ("squares += sum * sum;\n    }\n    __sync", "}\n    __sync"),
    "an item of the neighbour": ("first_item <= item", "first_item < item"),
}

UPDATE = {
    "v of the gradient before clipping": ("rest2 * (g * g)", "rest2 * (grad[i] * grad[i])"),
    "the step counted from 0": ("pow(beta1, (double)step)", "pow(beta1, (double)step - 1)"),
    "adam_eps under the root": (
        "(sqrtf(v_new * scalars[2]) + adam_eps)",
        "sqrtf(v_new * scalars[2] + adam_eps)",
    ),
    "the last elements are not updated": ("if (i >= count ||", "if (i >= count - 1 ||"),
}

SECOND_MOMENT = {
    "sums that others still change": (
        "sums[me - distance] : 0.0;\n    __syncthreads();",
        "sums[me - distance] : 0.0;",
    ),
    "sums that are not all there": ("sums[me] = x;\n  __syncthreads();", "sums[me] = x;"),
    "probabilities of other threads are not there": (
        "before += learnt.p(t);\n  __syncthreads();",
        "before += learnt.p(t);",
    ),
    "the time before": ("t = middle + 1;", "t = middle;\n      if (last - t == 1) break;"),
    "a place that several write": ("if (of.after < LAST) history", "history"),
    "counts that others have yet to read": ("  __syncthreads(); // the counts", "  // the counts"),
    "every image counts all": ("if (of.after == 0) counts", "counts"),
}
WALK = {
    "noise at t = 1": ("t > 1 && (LEARNED", "(LEARNED"),
    "clipped too late": ("x < -1.0f ? -1.0f", "x < -2.0f ? -2.0f"),
    "t changes while others read it": (
        "state[0] - 1;\n  __syncthreads();",
        "state[0] - 1;",
    ),
    "the noise of another t": ("first + image, t,", "first + image, t - 1,"),
}
