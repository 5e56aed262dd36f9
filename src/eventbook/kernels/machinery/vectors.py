r"""A vector of 16 single-precision numbers as a Numba type, so that a kernel says which loop runs in lanes.

    x = load(a, i)              16 consecutive elements of a 1-d contiguous float32 array, from a[i]
    h = decay * h + x           arithmetic as with numbers, products and sums fused where the machine can
    store(out, i, h)

Loop vectorisers give up on loops that carry a state, and libraries of vector functions do not reach Numba; a
type of its own does not depend on either. LLVM splits the 16 lanes into what the machine has: one register of
AVX-512, two of AVX2, four of SSE or NEON. So the code is portable, and one element less than 16 is no
special case in the arithmetic: `load_part` and `store_part` touch the first n lanes only.

| function | result |
|---|---|
| `splat(x)` | x in all lanes |
| `load(a, i)`, `store(a, i, v)` | a[i : i + 16] |
| `load_part(a, i, n)`, `store_part(a, i, n, v)` | a[i : i + n] for n <= 16, other lanes 0 |
| `load_first(a, i, n)`, `store_first(a, i, n, v)` | the same; all 16 as quickly as `load` and `store` |
| `load_pairs(a, i)`, `store_pairs(a, i, even, odd)` | a[i : i + 32] of interleaved pairs, as (even, odd) |
| `load_pairs_part`, `store_pairs_part` | the same for n <= 16 pairs |
| `stream(a, i, v)`, `stream_pairs(a, i, even, odd)` | as `store`, past the cache; a[i] aligned to 64 bytes |
| `scratch(n)` | n zeros to work on, at the start of a cache line: a vector across two lines costs twice |
| `announce_load(a, i)`, `announce_store(a, i)` | ask early for the cache line of a[i] |
| `lane_sum(v)` | sum of the lanes, float32 |
| `nonzero_bits(v)`, `lowest_bit(n)` | lanes that are not 0 as bits of an integer; number of its lowest bit |
| `minimum(v, w)`, `maximum(v, w)` | lane by lane; the second operand where the first is NaN |
| `where(v < w, x, y)` | x in the lanes where the comparison holds, else y |
| `v + ROUNDER` | v rounded to an integer n, as n + ROUNDER, whose lowest bits are those of n |
| `times_two_to(v, r)`, `negated_if_odd(v, r)` | v 2^n, v (-1)^n, for r = n + ROUNDER |

Elementary functions on this type are in `eventbook.kernels.machinery.elementary`.
"""
# mypy: disable-error-code="no-untyped-def, call-arg, var-annotated, unreachable"
# Kernels are typed by Numba, at every call.

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from eventbook.kernels.machinery.aligned import aligned
from eventbook.kernels.machinery.compile import kernel

LANES = 16
ROUNDER = 1.5 * 2**23  # adding it leaves no bits behind the point
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTEGERS, _BITS = (
    ir.VectorType(_FLOAT, LANES),
    ir.VectorType(_INT, LANES),
    ir.VectorType(ir.IntType(1), LANES),
)
_CONTRACT = ("contract",)


class Float32x16(types.Type):
    """Numba's name for the vector."""

    def __init__(self):
        super().__init__(name="float32x16")


class Mask16(types.Type):
    """What comparing two vectors gives."""

    def __init__(self):
        super().__init__(name="mask16")


float32x16, mask16 = Float32x16(), Mask16()


@register_model(Float32x16)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, of):
        super().__init__(manager, of, _VECTOR)


@register_model(Mask16)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, of):
        super().__init__(manager, of, _BITS)


# --- arithmetic --------------------------------------------------------------------------------------------


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, _INT(0))
    return builder.shuffle_vector(
        one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTEGERS, [0] * LANES)
    )


def _as_vector(context, builder, value, of):
    return value if of is float32x16 else _splat(builder, context.cast(builder, value, of, types.float32))


_SCALARS = (types.float32, types.float64, types.int64)
_PAIRS = [(float32x16, float32x16)] + [p for s in _SCALARS for p in ((float32x16, s), (s, float32x16))]


def _define_operator(symbols, result, emit):
    cases = [signature(result, a, b) for a, b in _PAIRS]

    def lowered(context, builder, sig, args):
        a, b = (_as_vector(context, builder, v, t) for v, t in zip(args, sig.args, strict=True))
        return emit(builder, a, b)

    for symbol in symbols:
        infer_global(symbol)(
            type(f"_{symbol.__name__}", (ConcreteTemplate,), {"key": symbol, "cases": cases})
        )
        for pair in _PAIRS:
            lower_builtin(symbol, *pair)(lowered)


_define_operator((operator.add, operator.iadd), float32x16, lambda b, x, y: b.fadd(x, y, flags=_CONTRACT))
_define_operator((operator.sub, operator.isub), float32x16, lambda b, x, y: b.fsub(x, y, flags=_CONTRACT))
_define_operator((operator.mul, operator.imul), float32x16, lambda b, x, y: b.fmul(x, y, flags=_CONTRACT))
_define_operator(
    (operator.truediv, operator.itruediv), float32x16, lambda b, x, y: b.fdiv(x, y, flags=_CONTRACT)
)
for _symbol, _word in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _define_operator((_symbol,), mask16, lambda b, x, y, word=_word: b.fcmp_ordered(word, x, y))


@infer_global(operator.neg)
class _Negation(ConcreteTemplate):
    key = operator.neg
    cases = [signature(float32x16, float32x16)]  # noqa: RUF012 (the attribute that Numba reads)


@lower_builtin(operator.neg, float32x16)
def _negate(context, builder, sig, args):
    return builder.fneg(args[0])


def _call(builder, name, result, arguments):
    """Call an LLVM intrinsic."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(result, [a.type for a in arguments]), name
    )
    return builder.call(function, arguments)


@intrinsic
def splat(typingctx, x):
    """x in all lanes."""

    def codegen(context, builder, sig, args):
        return _splat(builder, context.cast(builder, args[0], sig.args[0], types.float32))

    return float32x16(x), codegen


@intrinsic
def where(typingctx, mask, x, y):
    """x in the lanes where mask holds, else y."""

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return float32x16(mask16, float32x16, float32x16), codegen


@intrinsic
def minimum(typingctx, v, w):
    """The smaller of two, lane by lane; w where v is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return float32x16(float32x16, float32x16), codegen


@intrinsic
def maximum(typingctx, v, w):
    """The larger of two, lane by lane; w where v is NaN."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return float32x16(float32x16, float32x16), codegen


@intrinsic
def absolute(typingctx, v):
    """Absolute value, lane by lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.fabs.v{LANES}f32", _VECTOR, args)

    return float32x16(float32x16), codegen


@intrinsic
def times_two_to(typingctx, v, rounded):
    """v 2^n, where `rounded` is n + ROUNDER; the product must be a normal number (unchecked)."""

    def codegen(context, builder, sig, args):
        shift = ir.Constant(_INTEGERS, [23] * LANES)
        n = builder.shl(builder.bitcast(args[1], _INTEGERS), shift)
        return builder.bitcast(builder.add(builder.bitcast(args[0], _INTEGERS), n), _VECTOR)

    return float32x16(float32x16, float32x16), codegen


@intrinsic
def negated_if_odd(typingctx, v, rounded):
    """v (-1)^n, where `rounded` is n + ROUNDER."""

    def codegen(context, builder, sig, args):
        sign = builder.shl(builder.bitcast(args[1], _INTEGERS), ir.Constant(_INTEGERS, [31] * LANES))
        return builder.bitcast(builder.xor(builder.bitcast(args[0], _INTEGERS), sign), _VECTOR)

    return float32x16(float32x16, float32x16), codegen


@intrinsic
def lane_sum(typingctx, v):
    """Sum of the lanes in a fixed tree, float32."""

    def codegen(context, builder, sig, args):
        value, width = args[0], LANES
        while width > 1:
            width //= 2
            order = [
                ir.Constant(ir.VectorType(_INT, width), list(range(first, first + width)))
                for first in (0, width)
            ]
            halves = [builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), o) for o in order]
            value = builder.fadd(*halves)
        return builder.extract_element(value, _INT(0))

    return types.float32(float32x16), codegen


@intrinsic
def nonzero_bits(typingctx, v):
    """An integer whose bit k is set if lane k is not 0, NaN included."""

    def codegen(context, builder, sig, args):
        found = builder.fcmp_unordered("!=", args[0], ir.Constant(_VECTOR, [0.0] * LANES))
        return builder.zext(builder.bitcast(found, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(float32x16), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """Number of the lowest bit that is set, in an int64 that is not 0."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


# --- memory ------------------------------------------------------------------------------------------------


def _check(array):
    if not isinstance(array, types.Array) or (array.ndim, array.layout, array.dtype) != (
        1,
        "C",
        types.float32,
    ):
        raise TypeError(f"vectors are read from and written to contiguous 1-d float32 arrays, got {array}")


def _address(context, builder, array_type, array, i):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [i])


def _place(builder, pointer, of=_VECTOR):
    return builder.bitcast(pointer, of.as_pointer())


def _first_lanes(builder, n):
    """Lanes below n, an intp."""
    count = builder.trunc(n, _INT)
    one = builder.insert_element(ir.Constant(_INTEGERS, ir.Undefined), count, _INT(0))
    all_n = builder.shuffle_vector(
        one, ir.Constant(_INTEGERS, ir.Undefined), ir.Constant(_INTEGERS, [0] * LANES)
    )
    return builder.icmp_signed("<", ir.Constant(_INTEGERS, list(range(LANES))), all_n)


def _masked_load(builder, pointer, mask):
    place = _place(builder, pointer)
    name = f"llvm.masked.load.v{LANES}f32.p0"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [place.type, _INT, _BITS, _VECTOR]), name
    )
    return builder.call(function, [place, _INT(4), mask, ir.Constant(_VECTOR, [0.0] * LANES)])


def _masked_store(builder, value, pointer, mask):
    place = _place(builder, pointer)
    name = f"llvm.masked.store.v{LANES}f32.p0"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [_VECTOR, place.type, _INT, _BITS]), name
    )
    builder.call(function, [value, place, _INT(4), mask])


def _past_cache(builder, instruction):
    instruction.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))


def _even_odd(builder, first, second):
    """Two vectors of interleaved pairs -> all even elements, all odd elements."""
    return [
        builder.shuffle_vector(first, second, ir.Constant(_INTEGERS, list(range(start, 2 * LANES, 2))))
        for start in (0, 1)
    ]


def _interleaved(builder, even, odd):
    """All even elements, all odd elements -> two vectors of interleaved pairs."""
    order = [k // 2 + (k % 2) * LANES for k in range(2 * LANES)]
    return [
        builder.shuffle_vector(even, odd, ir.Constant(_INTEGERS, order[start : start + LANES]))
        for start in (0, LANES)
    ]


@kernel()
def scratch(n):
    """(n,) float32 zeros that begin at a cache line."""
    zeros = aligned(n, np.float32)
    zeros[:] = 0
    return zeros


_PAIR = types.UniTuple(float32x16, 2)


@intrinsic
def load(typingctx, a, i):
    """a[i : i + 16], unchecked."""
    _check(a)

    def codegen(context, builder, sig, args):
        return builder.load(_place(builder, _address(context, builder, sig.args[0], *args)), align=4)

    return float32x16(a, types.intp), codegen


@intrinsic
def store(typingctx, a, i, v):
    """a[i : i + 16] = v, unchecked."""
    _check(a)

    def codegen(context, builder, sig, args):
        builder.store(args[2], _place(builder, _address(context, builder, sig.args[0], *args[:2])), align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, float32x16), codegen


@intrinsic
def stream(typingctx, a, i, v):
    """a[i : i + 16] = v without reading the line into the cache; the address must be a multiple of 64."""
    _check(a)

    def codegen(context, builder, sig, args):
        place = _place(builder, _address(context, builder, sig.args[0], *args[:2]))
        _past_cache(builder, builder.store(args[2], place, align=64))
        return context.get_dummy_value()

    return types.void(a, types.intp, float32x16), codegen


def _prefetch(context, builder, array_type, args, writing):
    place = builder.bitcast(_address(context, builder, array_type, *args), ir.IntType(8).as_pointer())
    kinds = ir.FunctionType(ir.VoidType(), [place.type, _INT, _INT, _INT])
    prefetch = cgutils.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0")
    nearest_cache, data = _INT(3), _INT(1)
    builder.call(prefetch, [place, _INT(writing), nearest_cache, data])


@intrinsic
def announce_load(typingctx, a, i):
    """Ask for the cache line of a[i], which will be read; i may lie outside of a."""
    _check(a)

    def codegen(context, builder, sig, args):
        _prefetch(context, builder, sig.args[0], args, writing=0)
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@intrinsic
def announce_store(typingctx, a, i):
    """Ask for the cache line of a[i], which will be written; i may lie outside of a.

    Stores become visible in their order: one whose line is missing holds up all behind it.
    """
    _check(a)

    def codegen(context, builder, sig, args):
        _prefetch(context, builder, sig.args[0], args, writing=1)
        return context.get_dummy_value()

    return types.void(a, types.intp), codegen


@intrinsic
def load_part(typingctx, a, i, n):
    """a[i : i + n] in the first n <= 16 lanes, 0 in the others."""
    _check(a)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args[:2])
        return _masked_load(builder, pointer, _first_lanes(builder, args[2]))

    return float32x16(a, types.intp, types.intp), codegen


@intrinsic
def store_part(typingctx, a, i, n, v):
    """a[i : i + n] = the first n <= 16 lanes."""
    _check(a)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args[:2])
        _masked_store(builder, args[3], pointer, _first_lanes(builder, args[2]))
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, float32x16), codegen


@kernel(inline=True)
def load_first(a, i, n):
    """a[i : i + n] in the first n <= 16 lanes; a plain `load` where n is 16, in most turns of a loop."""
    if n == LANES:
        return load(a, i)
    return load_part(a, i, n)


@kernel(inline=True)
def store_first(a, i, n, v):
    """a[i : i + n] = the first n <= 16 lanes; a plain `store` where n is 16."""
    if n == LANES:
        store(a, i, v)
    else:
        store_part(a, i, n, v)


@intrinsic
def load_pairs(typingctx, a, i):
    """(a[i : i + 32 : 2], a[i + 1 : i + 32 : 2]): real and imaginary parts of 16 complex numbers."""
    _check(a)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args)
        parts = [
            builder.load(_place(builder, builder.gep(pointer, [ir.Constant(args[1].type, offset)])), align=4)
            for offset in (0, LANES)
        ]
        return context.make_tuple(builder, sig.return_type, _even_odd(builder, *parts))

    return _PAIR(a, types.intp), codegen


def _store_pairs(streaming):
    @intrinsic
    def store_pairs(typingctx, a, i, even, odd):
        _check(a)

        def codegen(context, builder, sig, args):
            pointer = _address(context, builder, sig.args[0], *args[:2])
            for offset, part in zip((0, LANES), _interleaved(builder, *args[2:]), strict=True):
                place = _place(builder, builder.gep(pointer, [ir.Constant(args[1].type, offset)]))
                done = builder.store(part, place, align=64 if streaming else 4)
                if streaming:
                    _past_cache(builder, done)
            return context.get_dummy_value()

        return types.void(a, types.intp, float32x16, float32x16), codegen

    return store_pairs


store_pairs = _store_pairs(streaming=False)
stream_pairs = _store_pairs(streaming=True)


def _halves_of(builder, n):
    """How many of n pairs' 2 n elements lie in the first and in the second vector, as masks."""
    twice = builder.shl(n, ir.Constant(n.type, 1))
    rest = builder.sub(twice, ir.Constant(n.type, LANES))
    return _first_lanes(builder, twice), _first_lanes(builder, rest)


@intrinsic
def load_pairs_part(typingctx, a, i, n):
    """As `load_pairs` for the first n <= 16 pairs, 0 in the other lanes."""
    _check(a)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args[:2])
        parts = [
            _masked_load(builder, builder.gep(pointer, [ir.Constant(args[1].type, offset)]), mask)
            for offset, mask in zip((0, LANES), _halves_of(builder, args[2]), strict=True)
        ]
        return context.make_tuple(builder, sig.return_type, _even_odd(builder, *parts))

    return _PAIR(a, types.intp, types.intp), codegen


@intrinsic
def store_pairs_part(typingctx, a, i, n, even, odd):
    """As `store_pairs` for the first n <= 16 pairs."""
    _check(a)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], *args[:2])
        parts = _interleaved(builder, *args[3:])
        for offset, part, mask in zip((0, LANES), parts, _halves_of(builder, args[2]), strict=True):
            _masked_store(builder, part, builder.gep(pointer, [ir.Constant(args[1].type, offset)]), mask)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, float32x16, float32x16), codegen
