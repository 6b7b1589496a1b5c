// SPDX-License-Identifier: Apache-2.0
// The simulated GPUs: one file that every process using the library maps, guarded by a lock on it. It outlives them all.
//
// nvml_sim/layout.py reads this header, so that there is one truth. It understands fixed-width members, arrays, structs that
// are declared above, and plain #define numbers. Change SIM_VERSION whenever the meaning changes but the size does not.
#ifndef FORJA_NVML_STATE_H
#define FORJA_NVML_STATE_H

#include <stdint.h>

#define SIM_MAGIC 0x4d4c564e
#define SIM_VERSION 1
#define SIM_NONE 0xffffffff

#define SIM_GPUS 16
#define SIM_GI_PROFILES 18
#define SIM_CI_PROFILES 9
#define SIM_PLACEMENTS 8
#define SIM_INSTANCES 15
#define SIM_COMPUTES 8
#define SIM_PROCESSES 64
#define SIM_FAULTS 16
#define SIM_FUNCTIONS 256
#define SIM_LOG 16384

struct sim_placement {
    uint32_t start;
    uint32_t size;
};

// A kind of compute instance within one kind of GPU instance; its index is its id.
struct sim_ci_profile {
    uint32_t offered;
    uint32_t slices;
    uint32_t count;
    uint32_t multiprocessors;
    uint32_t placement_count;
    struct sim_placement placements[SIM_PLACEMENTS];
};

// A kind of GPU instance as this very board offers it; its index is NVML_GPU_INSTANCE_PROFILE_*, its id another number.
struct sim_gi_profile {
    uint32_t offered;
    uint32_t id;
    uint32_t slices;
    uint32_t count;
    uint32_t multiprocessors;
    uint32_t copy_engines;
    uint32_t decoders;
    uint32_t encoders;
    uint32_t jpegs;
    uint32_t ofas;
    uint64_t memory_mib;
    char name[32];
    uint32_t graphics;
    uint32_t placement_count;
    struct sim_placement placements[SIM_PLACEMENTS];
    struct sim_ci_profile compute[SIM_CI_PROFILES];
};

// A compute instance that exists; its index in the GPU instance is its id.
struct sim_compute {
    uint32_t used;
    uint32_t profile;
    uint32_t start;
    uint32_t size;
    uint32_t serial;
};

// A GPU instance that exists; its index in the GPU is its id, a node of the buddy tree over the GPU's memory.
struct sim_instance {
    uint32_t used;
    uint32_t profile;
    uint32_t start;
    uint32_t size;
    uint32_t serial;
    struct sim_compute compute[SIM_COMPUTES];
};

struct sim_gpu {
    char name[96];
    char uuid[96];
    char board_serial[32];
    uint32_t domain;
    uint32_t bus;
    uint32_t device;
    uint32_t pci_id;
    uint32_t pci_subsystem_id;
    uint32_t architecture;
    uint32_t capability_major;
    uint32_t capability_minor;
    uint32_t ecc;
    uint32_t persistence;
    uint64_t memory_mib;
    // What only GPUs with MIG have.
    uint32_t mig_capable;
    uint32_t mig_current;
    uint32_t mig_pending;
    uint32_t mode_needs_reset;
    uint32_t mode_survives_reboot;
    uint32_t passthrough;
    uint32_t link_group;
    uint32_t leaves;
    uint32_t leaf_size;
    // The place, as NVML counts it, where there is memory but no compute; and whether NVML counts the halves the other way round.
    uint32_t computeless_leaf;
    uint32_t halves_swapped;
    uint32_t aligned_compute;
    uint32_t max_mig_devices;
    uint32_t engines[4];
    struct sim_gi_profile profiles[SIM_GI_PROFILES];
    struct sim_instance instances[SIM_INSTANCES];
    // A MIG device's UUID follows from its GPU, the GPU instance's id and the first slice of the compute instance.
    char mig_uuids[SIM_INSTANCES][SIM_COMPUTES][48];
};

// A registered user of a GPU. `started` (of /proc/PID/stat) tells it from a later process with the same number.
struct sim_process {
    uint32_t used;
    uint32_t pid;
    uint64_t started;
    uint64_t memory_mib;
    uint32_t gpu;
    uint32_t gi;
    uint32_t ci;
};

#define SIM_ACTION_CODE 1
#define SIM_ACTION_DELAY 2
#define SIM_ACTION_KILL 3
#define SIM_ACTION_ACTIVATION 4

// Something that goes wrong once `remaining` more calls of its functions (a set of bits) have come.
struct sim_fault {
    uint32_t times;
    uint32_t remaining;
    uint32_t action;
    uint32_t value;
    uint32_t after;
    uint64_t functions[4];
};

// A call in the log. Its result is SIM_NONE while it runs, and for ever when its caller was killed in it.
struct sim_call {
    uint32_t function;
    uint32_t pid;
    uint32_t gpu;
    uint32_t gi;
    uint32_t ci;
    uint32_t value;
    uint32_t result;
};

// `description` is a digest of the machine's JSON; `owner` a user with root's rights to the GPUs.
struct sim_state {
    uint32_t magic;
    uint32_t version;
    uint32_t size;
    uint32_t owner;
    char description[80];
    char driver[80];
    char nvml[80];
    uint32_t cuda;
    uint32_t profiles_need_mode;
    uint32_t next_serial;
    uint32_t boots;
    uint32_t gpu_count;
    struct sim_gpu gpus[SIM_GPUS];
    struct sim_process processes[SIM_PROCESSES];
    struct sim_fault faults[SIM_FAULTS];
    uint64_t calls;
    uint64_t counts[SIM_FUNCTIONS];
    struct sim_call log[SIM_LOG];
};

#endif
