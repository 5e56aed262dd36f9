r"""Vector operations on rows of (feature, lane) arrays whose lane count is 1 or a multiple of 16.

    new_lanes(n, width, like)            (n, width), uninitialised, each row at the start of a cache line
    add_scaled(out, i, a, source, j)     out[i, :] += a source[j, :]
    dot(a, i, b, j)                      sum of a[i, :] b[j, :]
    transpose_block(source, i, j, out)   out[j + c, i + r] = source[i + r, j + c] for r, c < 16

Written as LLVM vectors of 16 instead of loops: a row of one or two vectors is too short for the loop
vectoriser, which would check for overlapping rows and handle remainders at every connection; and Numba
counts references around array arguments of an ordinary call, which costs more than the operation. LLVM
splits the 16 lanes into what the machine has (one register of AVX-512 in float32, four of SSE or NEON), so
the code is portable.

| symbol | meaning | shape | name |
|---|---|---|---|
| lane | position in a padded batch | 1 or a multiple of 16 | `LANES` |
"""
# mypy: disable-error-code="no-untyped-def"
# Kernels are typed by Numba, at every call.

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from eventbook.kernels.machinery.aligned import aligned
from eventbook.kernels.machinery.compile import kernel

LANE_BITS = 4
LANES = 1 << LANE_BITS


@kernel()
def new_lanes(n, width, like):
    """An uninitialised (n, width) array of the dtype of `like` that begins at a cache line."""
    return aligned(n * width, like.dtype).reshape(n, width)


def _check(*arrays):
    dtype = arrays[0].dtype
    for array in arrays:
        if array.ndim != 2 or array.layout != "C" or array.dtype != dtype:
            raise TypeError(f"lane operations need C-contiguous 2-d arrays of one dtype, got {array}")


def _row(context, builder, array_type, array, i):
    """Pointer to the first lane of row i, and the number of lanes."""
    struct = context.make_array(array_type)(context, builder, array)
    width = cgutils.unpack_tuple(builder, struct.shape, 2)[1]
    return builder.gep(struct.data, [builder.mul(i, width)]), width


def _load(builder, pointer, at, lanes, size):
    place = builder.bitcast(builder.gep(pointer, [at]), lanes.as_pointer())
    return builder.load(place, align=size), place


def _for_each_width(builder, width, single, block):
    """Emit `single()` for one lane, else `block(first)` for each 16 lanes."""
    one = width.type(1)
    with builder.if_else(builder.icmp_signed("==", width, one)) as (then, otherwise):
        with then:
            single()
        with otherwise, cgutils.for_range(builder, builder.lshr(width, width.type(LANE_BITS))) as loop:
            block(builder.shl(loop.index, width.type(LANE_BITS)))


@intrinsic
def add_scaled(typingctx, out, i, scale, source, j):
    """out[i, :] += scale * source[j, :]."""
    _check(out, source)
    scalar = out.dtype

    def codegen(context, builder, signature, args):
        element = context.get_value_type(scalar)
        lanes, size = ir.VectorType(element, LANES), scalar.bitwidth // 8
        target, width = _row(context, builder, signature.args[0], args[0], args[1])
        origin, _ = _row(context, builder, signature.args[3], args[3], args[4])
        scaled = args[2]

        def single():
            product = builder.fmul(scaled, builder.load(origin), flags=("contract",))
            builder.store(builder.fadd(builder.load(target), product, flags=("contract",)), target)

        def block(first):
            splat = builder.insert_element(ir.Constant(lanes, ir.Undefined), scaled, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            factor = builder.shuffle_vector(splat, ir.Constant(lanes, ir.Undefined), zeros)
            old, place = _load(builder, target, first, lanes, size)
            other, _ = _load(builder, origin, first, lanes, size)
            new = builder.fadd(old, builder.fmul(factor, other, flags=("contract",)), flags=("contract",))
            builder.store(new, place, align=size)

        _for_each_width(builder, width, single, block)
        return context.get_dummy_value()

    return types.void(out, types.intp, scalar, source, types.intp), codegen


@intrinsic
def dot(typingctx, a, i, b, j):
    """Sum over lanes of a[i, :] * b[j, :], in the dtype of the arrays."""
    _check(a, b)
    scalar = a.dtype

    def codegen(context, builder, signature, args):
        element = context.get_value_type(scalar)
        lanes, size = ir.VectorType(element, LANES), scalar.bitwidth // 8
        left, width = _row(context, builder, signature.args[0], args[0], args[1])
        right, _ = _row(context, builder, signature.args[2], args[2], args[3])
        total = cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES))
        builder.store(ir.Constant(lanes, [0.0] * LANES), total)

        def single():
            product = builder.fmul(builder.load(left), builder.load(right))
            builder.store(builder.insert_element(builder.load(total), product, ir.IntType(32)(0)), total)

        def block(first):
            x, _ = _load(builder, left, first, lanes, size)
            y, _ = _load(builder, right, first, lanes, size)
            product = builder.fmul(x, y, flags=("contract",))
            builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)

        _for_each_width(builder, width, single, block)
        sum_type = ir.FunctionType(element, [element, lanes])
        suffix = f"v{LANES}f{scalar.bitwidth}"
        reduce = cgutils.get_or_insert_function(builder.module, sum_type, f"llvm.vector.reduce.fadd.{suffix}")
        return builder.call(reduce, [element(0.0), builder.load(total)], fastmath=("reassoc",))

    return scalar(a, types.intp, b, types.intp), codegen


@intrinsic
def transpose_block(typingctx, source, i, j, out):
    """out[j + c, i + r] = source[i + r, j + c] for r, c < 16, unchecked.

    Blocks of 1, 2, 4 and 8 rows and columns change sides, so that each element makes four moves in registers.
    """
    _check(source, out)
    scalar = out.dtype

    def codegen(context, builder, signature, args):
        lanes, size = ir.VectorType(context.get_value_type(scalar), LANES), scalar.bitwidth // 8

        def row(array_type, array, first, number, column):
            start, _ = _row(context, builder, array_type, array, builder.add(first, first.type(number)))
            return builder.bitcast(builder.gep(start, [column]), lanes.as_pointer())

        i, j = args[1], args[2]
        rows = [
            builder.load(row(signature.args[0], args[0], i, number, j), align=size) for number in range(LANES)
        ]
        for step in (1, 2, 4, 8):
            keep, swap = (
                ir.Constant(
                    ir.VectorType(ir.IntType(32), LANES),
                    [c + (LANES - step if c & step else 0) for c in range(LANES)]
                    if upper
                    else [c + (LANES if c & step else step) for c in range(LANES)],
                )
                for upper in (True, False)
            )
            for number in range(LANES):
                if not number & step:
                    pair = rows[number], rows[number + step]
                    rows[number], rows[number + step] = (
                        builder.shuffle_vector(*pair, order) for order in (keep, swap)
                    )
        for number, values in enumerate(rows):
            builder.store(values, row(signature.args[3], args[3], j, number, i), align=size)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, out), codegen
