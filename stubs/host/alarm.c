/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is wrong although no call has ended of it: kept until the test, at its
 * end, looks. A reset of the machine does not forget it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

#define ALARMS 32

static ffashim_alarm alarms[ALARMS];
static uint32_t alarms_nr;

/* A new alarm, for the caller to complete. The last ones share their place. */
ffashim_alarm *alarm_new(enum ffashim_alarm_kind kind, const char *fmt, ...)
{
    ffashim_alarm *alarm = &alarms[alarms_nr < ALARMS ? alarms_nr++
                                                      : ALARMS - 1];
    va_list args;

    alarm->kind = kind;
    alarm->taken_nr = 0;
    va_start(args, fmt);
    vsnprintf(alarm->text, sizeof(alarm->text), fmt, args);
    va_end(args);

    return alarm;
}

uint32_t ffashim_alarms(const ffashim_alarm **list)
{
    *list = alarms;

    return alarms_nr;
}

void ffashim_forget_alarms(void)
{
    alarms_nr = 0;
    order_forget();
}
