// SPDX-License-Identifier: Apache-2.0
// What monitors ask for. An idle GPU with constant readings: plausible, but nothing is measured and nothing depends on the model.
#include <string.h>
#include <unistd.h>

#include "sim.h"

// Readings of the whole GPU only: a MIG device has none, and in MIG mode utilisation has no meaning for the whole either.
#define READING(name, params, args, possible, answer)                                                                             \
    NVML(name, params, args)                                                                                                      \
    {                                                                                                                             \
        struct target target = any_device(device);                                                                                \
        if (!target.gpu || !value)                                                                                                \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                                   \
        if (target.compute || !(possible))                                                                                        \
            return NVML_ERROR_NOT_SUPPORTED;                                                                                      \
        answer;                                                                                                                   \
        return NVML_SUCCESS;                                                                                                      \
    }
#define SIMPLE(name, possible, answer) READING(name, (nvmlDevice_t device, unsigned *value), (device, value), possible, *value = answer)
#define INDEXED(name, possible, answer)                                                                                           \
    READING(name, (nvmlDevice_t device, unsigned which, unsigned *value), (device, which, value), possible, (void)which; *value = answer)

READING(nvmlDeviceGetUtilizationRates, (nvmlDevice_t device, nvmlUtilization_t *value), (device, value), !mig_enabled(target.gpu),
        *value = (nvmlUtilization_t){0})
READING(nvmlDeviceGetEncoderUtilization, (nvmlDevice_t device, unsigned *value, unsigned *period), (device, value, period),
        !mig_enabled(target.gpu) && period, *value = 0; *period = 167000)
READING(nvmlDeviceGetDecoderUtilization, (nvmlDevice_t device, unsigned *value, unsigned *period), (device, value, period),
        !mig_enabled(target.gpu) && period, *value = 0; *period = 167000)
READING(nvmlDeviceGetProcessUtilization, (nvmlDevice_t device, void *array, unsigned *value, unsigned long long last),
        (device, array, value, last), false, (void)array; (void)last)
INDEXED(nvmlDeviceGetTemperature, true, 30)
INDEXED(nvmlDeviceGetTemperatureThreshold, which <= 1, which == 0 ? 92 : 89)
SIMPLE(nvmlDeviceGetFanSpeed, false, 0) // server boards have no fan
SIMPLE(nvmlDeviceGetPowerUsage, true, 50000)
SIMPLE(nvmlDeviceGetEnforcedPowerLimit, true, 300000)
READING(nvmlDeviceGetTotalEnergyConsumption, (nvmlDevice_t device, unsigned long long *value), (device, value), true, *value = 1000000)
SIMPLE(nvmlDeviceGetPerformanceState, true, 0)
SIMPLE(nvmlDeviceGetMaxPcieLinkGeneration, true, 4)
SIMPLE(nvmlDeviceGetMaxPcieLinkWidth, true, 16)
SIMPLE(nvmlDeviceGetCurrPcieLinkGeneration, true, 4)
SIMPLE(nvmlDeviceGetCurrPcieLinkWidth, true, 16)
INDEXED(nvmlDeviceGetPcieThroughput, true, 0)

// Kinds of clock: 0 graphics, 1 multiprocessors, 2 memory, 3 video.
#define MEMORY_MHZ 1215
static unsigned mhz(unsigned kind) { return kind == 2 ? MEMORY_MHZ : 1410; }
INDEXED(nvmlDeviceGetClockInfo, which < 4, mhz(which))
INDEXED(nvmlDeviceGetMaxClockInfo, which < 4, mhz(which))
INDEXED(nvmlDeviceGetApplicationsClock, which < 4, mhz(which))

static nvmlReturn_t one_clock(nvmlDevice_t device, unsigned *count, unsigned *clocks, unsigned only)
{
    if (!any_device(device).gpu || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned room = clocks ? *count : 0;
    *count = 1;
    if (!room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    *clocks = only;
    return NVML_SUCCESS;
}

NVML(nvmlDeviceGetSupportedMemoryClocks, (nvmlDevice_t device, unsigned *count, unsigned *clocks), (device, count, clocks))
{
    return one_clock(device, count, clocks, MEMORY_MHZ);
}

NVML(nvmlDeviceGetSupportedGraphicsClocks, (nvmlDevice_t device, unsigned memory, unsigned *count, unsigned *clocks),
     (device, memory, count, clocks))
{
    return memory == MEMORY_MHZ ? one_clock(device, count, clocks, mhz(0)) : NVML_ERROR_NOT_FOUND;
}

// There is one clock to choose, and it is the one that runs.
NVML(nvmlDeviceSetApplicationsClocks, (nvmlDevice_t device, unsigned memory, unsigned graphics), (device, memory, graphics))
{
    if (!gpu_device(device).gpu || memory != MEMORY_MHZ || graphics != mhz(0))
        return NVML_ERROR_INVALID_ARGUMENT;
    return privileged() ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

NVML(nvmlDeviceResetApplicationsClocks, (nvmlDevice_t device), (device))
{
    if (!gpu_device(device).gpu)
        return NVML_ERROR_INVALID_ARGUMENT;
    return privileged() ? NVML_SUCCESS : NVML_ERROR_NO_PERMISSION;
}

// Near to every processor that this machine has.
NVML(nvmlDeviceGetCpuAffinity, (nvmlDevice_t device, unsigned words, unsigned long *set), (device, words, set))
{
    if (!any_device(device).gpu || !set || !words)
        return NVML_ERROR_INVALID_ARGUMENT;
    memset(set, 0, words * sizeof *set);
    long processors = sysconf(_SC_NPROCESSORS_CONF);
    for (long cpu = 0; cpu < processors && cpu < (long)words * 64; cpu++)
        set[cpu / 64] |= 1UL << (cpu % 64);
    return NVML_SUCCESS;
}

// No NVLink.
NVML(nvmlDeviceGetNvLinkState, (nvmlDevice_t device, unsigned link, unsigned *active), (device, link, active))
{
    (void)link;
    return any_device(device).gpu && active ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
}

NVML(nvmlDeviceGetNvLinkRemotePciInfo_v2, (nvmlDevice_t device, unsigned link, void *info), (device, link, info))
{
    (void)link;
    return any_device(device).gpu && info ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
}
NVML_AS(nvmlDeviceGetNvLinkRemotePciInfo, nvmlDeviceGetNvLinkRemotePciInfo_v2, (nvmlDevice_t device, unsigned link, void *info),
        (device, link, info));
