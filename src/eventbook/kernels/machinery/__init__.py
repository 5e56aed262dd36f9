"""What all kernels stand on.

compile       the one way to compile a kernel, cached by the content of the sources
doors         a kernel that checks its arguments when it is called from Python
indices       proofs about indices, made where they enter and remembered until they change
vectors       sixteen floats as a type: load, store, arithmetic
lanes         rows of sixteen: sums, products, transposition
elementary    exponentials, sines, logistic and tanh without a call
aligned       arrays that begin at a cache line
memory        a pool for large results, so that a training step faults no pages
random        counter-based random numbers: uniform, normal, signs of connections
threads       a batch over Python threads, same bits at any count
tensors       torch's tensors as arrays without a copy, and the checks at the door
limits        what the machine can do: triad and multiply-add, the yardsticks of the benchmarks
"""
