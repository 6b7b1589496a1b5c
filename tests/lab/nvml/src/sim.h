// SPDX-License-Identifier: Apache-2.0
// What the parts of the library share: the frame around every call, handles, and small questions about a GPU.
#ifndef FORJA_NVML_SIM_H
#define FORJA_NVML_SIM_H

#include <stdbool.h>
#include <stddef.h>

#include "nvml.h"
#include "state.h"

enum function {
#define READS(name) F_##name,
#define CHANGES(name) F_##name,
#include "functions.h"
#undef READS
#undef CHANGES
    F_COUNT
};
_Static_assert(F_COUNT <= SIM_FUNCTIONS, "raise SIM_FUNCTIONS");

// Valid between sim_enter and sim_leave.
extern struct sim_state *sim;
extern struct sim_call *sim_current;
// The status that a fault gives a mode change, or SIM_NONE.
extern unsigned sim_activation;

nvmlReturn_t sim_attach(void);
nvmlReturn_t sim_detach(void);
nvmlReturn_t sim_enter(enum function function);
nvmlReturn_t sim_leave(nvmlReturn_t result);

#define EXPORT __attribute__((visibility("default")))

// Defines an exported function: `body` runs under the lock, counted, logged, and with the faults that are set.
#define NVML(name, params, args)                                                                                                  \
    static nvmlReturn_t do_##name params;                                                                                         \
    NVML_AS(name, name, params, args);                                                                                            \
    static nvmlReturn_t do_##name params

// The same function under another name, counted under that name.
#define NVML_AS(name, body, params, args)                                                                                         \
    EXPORT nvmlReturn_t name params;                                                                                              \
    EXPORT nvmlReturn_t name params                                                                                               \
    {                                                                                                                             \
        nvmlReturn_t result = sim_enter(F_##name);                                                                                \
        if (result == NVML_SUCCESS)                                                                                               \
            result = do_##body args;                                                                                              \
        return sim_leave(result);                                                                                                 \
    }                                                                                                                             \
    _Static_assert(F_##name < F_COUNT, "functions.h lists it")

// What a handle means. A part is SIM_NONE where the handle does not go that far; `gpu` is null where the handle is not valid.
struct target {
    struct sim_gpu *gpu;
    struct sim_instance *instance;
    struct sim_compute *compute;
    unsigned gpu_index, gi, ci;
};

nvmlDevice_t device_handle(unsigned gpu);
nvmlDevice_t mig_handle(unsigned gpu, unsigned gi, unsigned ci);
nvmlGpuInstance_t instance_handle(unsigned gpu, unsigned gi);
nvmlComputeInstance_t compute_handle(unsigned gpu, unsigned gi, unsigned ci);
struct target any_device(nvmlDevice_t handle);   // a GPU or a MIG device
struct target gpu_device(nvmlDevice_t handle);   // only a GPU
struct target mig_device(nvmlDevice_t handle);   // only a MIG device
struct target of_instance(nvmlGpuInstance_t handle);
struct target of_compute(nvmlComputeInstance_t handle);

bool privileged(void);
bool busy(unsigned gpu, unsigned gi, unsigned ci);
bool alive(const struct sim_process *process);
bool overlaps(unsigned start, unsigned size, unsigned other_start, unsigned other_size);
void copy_text(char *target, const char *source, size_t size);
nvmlReturn_t answer_text(const char *text, char *target, unsigned size);
void mig_name(const struct sim_gi_profile *profile, unsigned slices, char *text, size_t size);
bool mig_enabled(const struct sim_gpu *gpu);
void forget_instances(struct sim_gpu *gpu);

#endif
