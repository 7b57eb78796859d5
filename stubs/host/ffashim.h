/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The interface between Python and the machine: cffi parses this file, so it
 * holds declarations only, in plain C types. ffashim/machine.py is its one
 * user and says what each of them means to people.
 */

/* Registers x0 to x17 of a guest's call, before and after. */
uint64_t *ffashim_frame(void);

/*
 * Life of the machine. Results: 0, or a value of enum ffashim_fault; what
 * else there is to say is in the report.
 */
int ffashim_open(void);
void ffashim_rearm(void);
int ffashim_snapshot(void **snapshot);
void ffashim_snapshot_free(void *snapshot);
int ffashim_restore(void *snapshot);
uint64_t ffashim_data_size(void);
/*
 * A hash of what can make a difference to what comes: not of what is only
 * looked back at, nor of what a CPU held when it was last left.
 */
uint64_t ffashim_fingerprint(void);

/* Jobs: put one on a CPU, run the CPU until it is done or cannot go on. */
int ffashim_start(uint32_t cpu, uint32_t kind, uint64_t a, uint64_t b,
                  uint64_t c, uint64_t *regs);
int ffashim_drive(uint32_t cpu);
int ffashim_cpu_state(uint32_t cpu);
int64_t ffashim_result(uint32_t cpu);
void ffashim_retire(uint32_t cpu);

/*
 * A call of the registers in the frame, which ends up there. 0: done, and
 * nothing is left to do. -1: the CPU is busy. -2: the vCPU cannot call, the
 * result tells why. -3: done, and Xen has deferred something. -4: the machine
 * has stopped. Else the state of a CPU that could not run through.
 */
int ffashim_call(uint32_t cpu, uint32_t slot, uint32_t vcpu);
int ffashim_start_call(uint32_t cpu, uint32_t slot, uint32_t vcpu);
void ffashim_fetch(uint32_t cpu);

/* Whether a CPU is in the middle of a call, or calls, of this vCPU. */
int ffashim_calling(uint32_t slot, uint32_t vcpu);

/* The last calls, oldest first. */
typedef struct {
    uint32_t slot, vcpu;
    uint64_t x[18];
} ffashim_past;

uint32_t ffashim_history(ffashim_past *past, uint32_t max);
int ffashim_job(uint32_t cpu, uint32_t kind, uint64_t a, uint64_t b,
                uint64_t c, uint64_t *regs);

/* What ended a call. */
typedef struct {
    uint32_t kind;           /* enum ffashim_fault                           */
    uint32_t cpu;
    uint32_t line;
    uint32_t frames;
    uint64_t allocated_by;   /* the memory in question, as in ffashim_block; */
    uint64_t allocated_outer; /* 0: not known                                */
    uint64_t freed_by;
    char file[256];          /* empty where only the frames tell             */
    char text[512];
    uint64_t frame[32];      /* return addresses, as offsets in the module   */
} ffashim_report;

const ffashim_report *ffashim_last_report(void);

/* Locks that a CPU holds, oldest first, or waits for. */
typedef struct {
    uint64_t lock;
    uint32_t mode;           /* spin, read, write                            */
    uint32_t line;
    const char *name;        /* Xen's expression for it, or NULL             */
    const char *file;
    uint64_t caller;         /* offset in the module                         */
} ffashim_lock;

uint32_t ffashim_locks(uint32_t cpu, ffashim_lock *locks, uint32_t max);
/*
 * One lock taken inside of another, in the call of this function ID (or job,
 * enum ffashim_job_kind), the inner one by this way. Without an outer one:
 * just taken.
 */
typedef struct {
    ffashim_lock outer, inner;
    uint32_t call;
    uint32_t frames;
    uint64_t frame[8];
} ffashim_taken;

/* What is wrong though no call has ended of it. */
typedef struct {
    uint32_t kind;           /* enum ffashim_alarm_kind                      */
    uint32_t taken_nr;
    char text[256];
    ffashim_taken taken[8];
} ffashim_alarm;

/* Alarms since the last time that all was forgotten, which a reset does not. */
uint32_t ffashim_alarms(const ffashim_alarm **alarms);
void ffashim_forget_alarms(void);

int ffashim_waits(uint32_t cpu, ffashim_lock *lock, uint32_t *holder);

/* Switch points: one bit a kind of point; 0 makes them free. */
void ffashim_watch(uint32_t points);
/* The same, but for so many of the next. */
void ffashim_watch_after(uint32_t points, uint32_t many);

/*
 * Accesses of a CPU's call to memory that guests share. Seen in a build for
 * --sanitize=double-fetch only.
 */
typedef struct {
    uint64_t fid;            /* the call's; 0: what no guest has asked for   */
    uint64_t ma;
    uint32_t size;
    uint32_t write;
    uint32_t frames;
    uint64_t frame[16];      /* return addresses, as offsets in the module   */
} ffashim_access;

/* How many a call has made, the one that it is about to make included. */
uint32_t ffashim_accesses(uint32_t cpu, const ffashim_access **all);
/* What the last one has a byte in common with, or NULL; see stubs/host/fetch.c. */
const ffashim_access *ffashim_accessed_before(uint32_t cpu);

/* Domains. */
int64_t ffashim_domain_create(uint32_t cpu, uint32_t id, uint32_t vcpus,
                              int aarch64, int tee, uint64_t ram_base,
                              uint64_t ram_pages, int fail_late, int *fault);
int ffashim_domain_exists(uint32_t slot);
int ffashim_vcpu_online(uint32_t slot, uint32_t vcpu, int online);
void ffashim_conduit(uint32_t conduit);

/* Guest memory. */
void *ffashim_guest_page(uint32_t slot, uint64_t gfn);
void *ffashim_ram_page(uint64_t ma);
int ffashim_p2m_set(uint32_t slot, uint64_t gfn, uint32_t type, uint64_t mfn);
uint64_t ffashim_p2m_get(uint32_t slot, uint64_t gfn, uint32_t *type);
int64_t ffashim_page_refs(uint32_t slot, uint64_t gfn);

/* Xen's heap. */
typedef struct {
    uint64_t serial;         /* the how-manieth allocation since boot        */
    uint64_t size;
    uint64_t caller;         /* the call's offset in the module              */
    uint64_t outer;          /* of the call of the caller, for one that is   */
                             /* an inline function of a header; 0: not known */
} ffashim_block;

/*
 * What Xen holds for a guest, or (owner 0) for anybody: what was taken while
 * it worked for it. An owner is a domain's number, never used again; 0 where
 * Xen worked for none.
 */
typedef struct {
    uint32_t kind;           /* enum ffashim_holding_kind                    */
    uint32_t owner;
    uint32_t call;           /* see ffashim_taken                            */
    uint32_t count;          /* references                                   */
    uint64_t what;           /* size of a block or of pages, or mfn          */
    uint64_t caller, outer;  /* as in ffashim_block                          */
} ffashim_holding;

uint32_t ffashim_holdings(uint32_t owner, ffashim_holding *list, uint32_t max);
uint32_t ffashim_owner(uint32_t slot);
uint32_t ffashim_last_owner(void);

uint32_t ffashim_heap(ffashim_block *blocks, uint32_t max);
/*
 * The first block that was written to where it may not be. 0: none. 1: before
 * its start, 2: past its end, 3: after it was freed.
 */
int ffashim_damaged(ffashim_block *block);

uint64_t ffashim_allocations(void);
void ffashim_fail_allocation(int64_t nth, int64_t count);
uint32_t ffashim_mappings(uint64_t *mfns, uint32_t max);
void ffashim_fail_mapping(int64_t nth);

/* Time, interrupts and what Xen does later. */
int64_t ffashim_now(void);
void ffashim_set_now(int64_t ns);
int64_t ffashim_next_timer(void);
uint32_t ffashim_timers(void);
uint64_t ffashim_timer_function(void);      /* of the next: offset, or 0      */
int ffashim_softirq_pending(void);
int ffashim_irq_requested(uint32_t irq, uint32_t cpu);
int ffashim_irq_type(uint32_t irq);         /* IRQ_TYPE_*, -1 if never set    */
void ffashim_smccc_version(uint32_t version);

/* What the machine said. */
typedef struct {
    uint32_t kind;
    uint64_t a, b, c;
} ffashim_event;

uint32_t ffashim_events(const ffashim_event **events);
uint32_t ffashim_console(const char **text);
int64_t ffashim_set_hang_limit(int64_t ms);

/*
 * What --coverage counts: how often each edge of the tree's functions was
 * taken. None in a build without it. Written to a file for each file of the
 * tree, added to what other processes have written there, and zero after it.
 */
uint64_t *ffashim_counters(uint64_t *nr);
void ffashim_write_counters(const char *directory);
