/* libnvidia-ml.so.1, played: GPUs of PLAYED_CAPABILITY (90 for 9.0) that nobody uses, and a driver of PLAYED_DRIVER. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned long long total, free, used; } Memory;

static const char *given(const char *name, const char *other) { return getenv(name) ? getenv(name) : other; }

int nvmlInit(void) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int error) { (void)error; return "played"; }

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    snprintf(out, size, "%s", given("PLAYED_DRIVER", "580.65.06"));
    return 0;
}

int nvmlDeviceGetCount_v2(unsigned *count) { *count = atoi(given("PLAYED_GPUS", "1")); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(long)(index + 1); return 0; }

int nvmlDeviceGetName(void *device, char *out, unsigned size) {
    int capability = atoi(given("PLAYED_CAPABILITY", "90"));
    (void)device; /* vLLM asks for the name where a kind of card is meant */
    snprintf(out, size, "NVIDIA %s", capability < 90 ? "A100-SXM4-80GB" : capability < 100 ? "H100 80GB HBM3" : "B200");
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *out, unsigned size) {
    snprintf(out, size, "GPU-00000000-0000-0000-0000-%012ld", (long)device);
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    int capability = atoi(given("PLAYED_CAPABILITY", "90"));
    (void)device;
    *major = capability / 10;
    *minor = capability % 10;
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    (void)device;
    memory->total = memory->free = 80ULL << 30;
    memory->used = 0;
    return 0;
}
