"""In a container: what Triton compiles when a kernel is first needed: the kernel for each kind of GPU, and its launcher, in C."""

import json

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver

CAPABILITIES = (80, 90, 100)


@triton.jit
def twice(data, size: tl.constexpr):
    places = tl.arange(0, size)
    tl.store(data + places, 2 * tl.load(data + places))


source = ASTSource(fn=twice, signature={"data": "*fp32", "size": "constexpr"}, constexprs={"size": 128})
made = {each: len(triton.compile(source, target=GPUTarget("cuda", each, 32)).asm["cubin"]) for each in CAPABILITIES}
print(json.dumps({"cubins": made, "launcher": type(driver.active.utils).__name__}))
