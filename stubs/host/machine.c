/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The machine as Python sees it: snapshots, console, clock, events.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define CONSOLE_MAX (64 * 1024)
#define EVENTS_MAX  4096

/* Laid out by the linker script: all that a snapshot has to copy. */
extern unsigned char ffashim_data_start[], ffashim_data_end[];
extern unsigned char ffashim_future_start[];
extern unsigned char __per_cpu_start[], __per_cpu_data_end[];

unsigned long __per_cpu_offset[4096];

static int64_t now MACHINE_STATE;
static uint32_t console_used MACHINE_PAST;
static uint32_t events_nr MACHINE_PAST;
static char console[CONSOLE_MAX];
static ffashim_event events[EVENTS_MAX];

struct snapshot {
    struct memory_saved *memory;
    unsigned char data[];
};

uint64_t ffashim_data_size(void)
{
    return ffashim_data_end - ffashim_data_start;
}

int ffashim_open(void)
{
    size_t area = __per_cpu_data_end - __per_cpu_start;
    int rc;

    for ( unsigned int cpu = 0; cpu < FFASHIM_CPUS; cpu++ )
        __per_cpu_offset[cpu] = cpu * area;

    rc = memory_open();
    if ( !rc )
        rc = cpu_open();
    if ( !rc )
        fault_open();

    return rc;
}

void ffashim_rearm(void)
{
    fault_open();
}

int ffashim_snapshot(void **snapshot)
{
    size_t size = ffashim_data_size();
    struct snapshot *s = malloc(sizeof(*s) + size);

    if ( !s || !(s->memory = memory_save()) )
    {
        free(s);
        return -1;
    }
    memcpy(s->data, ffashim_data_start, size);
    *snapshot = s;

    return 0;
}

void ffashim_snapshot_free(void *snapshot)
{
    struct snapshot *s = snapshot;

    memory_saved_free(s->memory);
    free(s);
}

int ffashim_restore(void *snapshot)
{
    const struct snapshot *s = snapshot;

    cpu_abandon_all();
    memory_restore(s->memory);
    memcpy(ffashim_data_start, s->data, ffashim_data_size());

    return 0;
}

uint64_t hash_of(uint64_t hash, const void *data, size_t size)
{
    const uint64_t *word = data;
    uint64_t lane[4] = { hash, 1, 2, 3 };  /* they do not wait for each other */

    for ( size_t n = 0; n < size / sizeof(*word); n++ )
    {
        lane[n % 4] = (lane[n % 4] ^ word[n]) * 0x9e3779b97f4a7c15U;
        lane[n % 4] ^= lane[n % 4] >> 29;
    }
    for ( unsigned int n = 1; n < 4; n++ )
    {
        lane[0] = (lane[0] ^ lane[n]) * 0x9e3779b97f4a7c15U;
        lane[0] ^= lane[0] >> 29;
    }

    return lane[0];
}

uint64_t ffashim_fingerprint(void)
{
    uint64_t hash = hash_of(memory_hash(), ffashim_future_start,
                            ffashim_data_end - ffashim_future_start);

    return hash_of(hash, &(uint64_t){ heap_hash() }, sizeof(uint64_t));
}

/* ---- Console and events -------------------------------------------------- */

/* Kept as level, text, NUL; the last of it, once it no longer fits. */
void host_console(int level, const char *text)
{
    size_t len = strlen(text);

    if ( len > 1024 )
        len = 1024;
    if ( console_used + len + 3 > sizeof(console) )
    {
        memmove(console, console + sizeof(console) / 2,
                console_used - sizeof(console) / 2);
        console_used -= sizeof(console) / 2;
    }
    console[console_used++] = '0' + (level < 0 ? 9 : level);
    memcpy(console + console_used, text, len);
    console_used += len;
    console[console_used++] = '\0';
}

uint32_t ffashim_console(const char **text)
{
    *text = console;

    return console_used;
}

void host_event(enum ffashim_event_kind kind, uint64_t a, uint64_t b,
                uint64_t c)
{
    if ( events_nr < EVENTS_MAX )
        events[events_nr++] = (ffashim_event){ kind, a, b, c };
}

uint32_t ffashim_events(const ffashim_event **list)
{
    *list = events;

    return events_nr;
}

/* ---- Clock --------------------------------------------------------------- */

int64_t host_now(void)
{
    return now;
}

int64_t ffashim_now(void)
{
    return now;
}

void ffashim_set_now(int64_t ns)
{
    now = ns;
}

int64_t ffashim_next_timer(void)
{
    return xen_next_timer();
}

uint32_t ffashim_timers(void)
{
    return xen_timers();
}

uint64_t ffashim_timer_function(void)
{
    return module_offset(xen_timer_function());
}

int ffashim_softirq_pending(void)
{
    return xen_softirq_pending();
}

int ffashim_irq_requested(uint32_t irq, uint32_t cpu)
{
    return xen_irq_requested(irq, cpu);
}

int ffashim_irq_type(uint32_t irq)
{
    return xen_irq_type(irq);
}

/* ---- System registers ---------------------------------------------------- */

unsigned long host_read_sysreg(const char *name)
{
    host_fault(FFASHIM_UNMODELLED, NULL, 0,
               "the system register %s is read, which this machine lacks",
               name);
}

void host_write_sysreg(const char *name, unsigned long value)
{
    host_fault(FFASHIM_UNMODELLED, NULL, 0,
               "%#lx is written to the system register %s, which this machine "
               "lacks", value, name);
}

void ffashim_smccc_version(uint32_t version)
{
    smccc_ver = version;
}

/* ---- Domains ------------------------------------------------------------- */

int64_t ffashim_domain_create(uint32_t cpu, uint32_t id, uint32_t vcpus,
                              int aarch64, int tee, uint64_t ram_base,
                              uint64_t ram_pages, int fail_late, int *fault)
{
    xen_new_domain = (struct xen_domain){
        .id = id, .vcpus = vcpus, .aarch64 = aarch64, .tee = tee,
        .ram_base = ram_base, .ram_pages = ram_pages, .fail_late = fail_late,
    };
    *fault = ffashim_job(cpu, FFASHIM_JOB_CREATE, 0, 0, 0, NULL);

    return ffashim_result(cpu);
}

int ffashim_domain_exists(uint32_t slot)
{
    return xen_domain_exists(slot);
}

uint32_t ffashim_owner(uint32_t slot)
{
    return xen_domain_owner(slot);
}

uint32_t ffashim_last_owner(void)
{
    return xen_last_owner;
}

int ffashim_vcpu_online(uint32_t slot, uint32_t vcpu, int online)
{
    return xen_vcpu_set_online(slot, vcpu, online);
}

void ffashim_conduit(uint32_t conduit)
{
    xen_conduit = conduit;
}

int ffashim_p2m_set(uint32_t slot, uint64_t gfn, uint32_t type, uint64_t mfn)
{
    return xen_domain_exists(slot) ? xen_p2m_set(slot, gfn, type, mfn) : -1;
}

uint64_t ffashim_p2m_get(uint32_t slot, uint64_t gfn, uint32_t *type)
{
    enum ffashim_p2m t = FFASHIM_P2M_UNMAPPED;
    uint64_t mfn = xen_domain_exists(slot) ? xen_p2m_get(slot, gfn, &t) : 0;

    *type = t;

    return mfn;
}
