"""Networks: layers that own parameters, blocks made of layers, and the U-Net made of blocks.

A layer's ``forward(x)`` returns ``(y, saved)``; its ``backward(dy, saved)`` returns ``dx`` and has
one side effect: it adds to the ``grad`` of its parameters. A block's backward is its forward read
upwards. A level's backward takes what it has used out of the lists that its forward saved, which
frees the memory early; ``UNet.backward`` gives it copies of these lists, unless told to ``use_up``
the lists themselves.
"""
