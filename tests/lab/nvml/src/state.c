// SPDX-License-Identifier: Apache-2.0
// The state file: mapping it, locking it, counting and logging calls, and making them fail when told to.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define DEFAULT_PATH "/var/lib/forja-nvml/state"

struct sim_state *sim;
struct sim_call *sim_current;
unsigned sim_activation;

// The lock on the file keeps processes apart, the mutex threads. A killed process loses its lock, so nobody waits for the dead.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned references;
static int file = -1;
static struct sim_fault *fault_after;

static void hold(void) { pthread_mutex_lock(&mutex); }
static void release(void) { pthread_mutex_unlock(&mutex); }
__attribute__((constructor)) static void at_fork(void) { pthread_atfork(hold, release, release); }

static void lock_file(short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    while (fcntl(file, F_SETLKW, &lock) < 0 && errno == EINTR)
        continue;
}

static nvmlReturn_t map_state(void)
{
    const char *path = getenv("FORJA_NVML_STATE");
    file = open(path && *path ? path : DEFAULT_PATH, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return errno == EACCES ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_DRIVER_NOT_LOADED;
    struct stat status;
    void *map = MAP_FAILED;
    if (fstat(file, &status) == 0 && status.st_size == sizeof *sim)
        map = mmap(NULL, sizeof *sim, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) {
        sim = map;
        if (sim->magic == SIM_MAGIC && sim->version == SIM_VERSION && sim->size == sizeof *sim)
            return NVML_SUCCESS;
        munmap(map, sizeof *sim);
    }
    sim = NULL;
    close(file);
    return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
}

// Programs nest nvmlInit, some through several handles of the library: only the last nvmlShutdown lets go.
nvmlReturn_t sim_attach(void)
{
    hold();
    nvmlReturn_t result = references ? NVML_SUCCESS : map_state();
    if (result == NVML_SUCCESS)
        references++;
    release();
    return result;
}

nvmlReturn_t sim_detach(void)
{
    hold();
    nvmlReturn_t result = references ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (references && --references == 0) {
        munmap(sim, sizeof *sim);
        close(file);
        sim = NULL;
    }
    release();
    return result;
}

static struct sim_fault *fault_of(enum function function)
{
    for (struct sim_fault *fault = sim->faults; fault < sim->faults + SIM_FAULTS; fault++) {
        if (!fault->times || !(fault->functions[function / 64] >> (function % 64) & 1))
            continue;
        if (fault->remaining > 1) {
            fault->remaining--;
            continue;
        }
        if (fault->times != SIM_NONE)
            fault->times--;
        return fault;
    }
    return NULL;
}

// Returns the code that the call shall have, or success.
static nvmlReturn_t strike(const struct sim_fault *fault)
{
    struct timespec pause = {.tv_sec = fault->value / 1000, .tv_nsec = fault->value % 1000 * 1000000L};
    switch (fault->action) {
    case SIM_ACTION_CODE:
        return (nvmlReturn_t)fault->value;
    case SIM_ACTION_DELAY: // the others may go on meanwhile
        lock_file(F_UNLCK);
        nanosleep(&pause, NULL);
        lock_file(F_WRLCK);
        return NVML_SUCCESS;
    case SIM_ACTION_KILL:
        kill(getpid(), SIGKILL);
        for (;;)
            pause.tv_sec = 1, nanosleep(&pause, NULL);
    case SIM_ACTION_ACTIVATION:
        sim_activation = fault->value;
        return NVML_SUCCESS;
    default:
        return NVML_SUCCESS;
    }
}

nvmlReturn_t sim_enter(enum function function)
{
    hold();
    sim_activation = SIM_NONE;
    fault_after = NULL;
    if (!sim)
        return NVML_ERROR_UNINITIALIZED;
    lock_file(F_WRLCK);
    sim->counts[function]++;
    sim_current = &sim->log[sim->calls++ % SIM_LOG];
    *sim_current = (struct sim_call){.function = function, .pid = (uint32_t)getpid(), .gpu = SIM_NONE, .gi = SIM_NONE, .ci = SIM_NONE,
                                     .value = SIM_NONE, .result = SIM_NONE};
    struct sim_fault *fault = fault_of(function);
    if (!fault)
        return NVML_SUCCESS;
    if (fault->after) {
        fault_after = fault;
        return NVML_SUCCESS;
    }
    // A delay unlocks, and another process may then have used up the log: finish under the own entry all the same.
    return strike(fault);
}

nvmlReturn_t sim_leave(nvmlReturn_t result)
{
    if (sim) {
        if (fault_after) {
            nvmlReturn_t code = strike(fault_after);
            if (code != NVML_SUCCESS)
                result = code;
        }
        sim_current->result = (uint32_t)result;
        lock_file(F_UNLCK);
    }
    release();
    return result;
}

// Root, and the user whom the machine's description names as owner, so that tests need not be root.
bool privileged(void) { return geteuid() == 0 || geteuid() == sim->owner; }

EXPORT const char *forjaNvmlSimulator(void);
EXPORT const char *forjaNvmlSimulator(void) { return "Forja's NVML simulator: no real GPU is behind this library"; }
