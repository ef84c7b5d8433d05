"""Networks: layers that own parameters, blocks made of layers, and the U-Net made of blocks.

A layer's ``forward(x)`` returns ``(y, saved)``; its ``backward(dy, saved)`` returns ``dx`` and has
one side effect: it adds to the ``grad`` of its parameters. A block's backward is its forward read
upwards. What a level saved is taken apart on the way, so that memory can go as soon as it is used:
``UNet.backward`` hands it a copy of the lists, unless told to use up its own.
"""
