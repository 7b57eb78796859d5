/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The order in which locks are taken. Two locks that are taken in two orders
 * deadlock two CPUs some day; that is seen here by what each CPU alone does.
 *
 * Locks are of a class: those that one line of Xen initialises, or a lock of
 * its own that is static. A word in the lock, which this machine needs for
 * nothing else, tells its class, and which one of the class it is; so a lock
 * that nobody has initialised, or that lies in freed memory, is known too.
 * Classes and their order outlive a reset: a test that starts each example
 * from a snapshot is one test.
 */
#include <string.h>

#include "internal.h"

#define CLASSES 64                         /* bits of a set; 0 is none         */
#define EDGES   256
#define PAIRS   1024                       /* then the oldest is forgotten     */

struct class {
    const void *lock;                      /* the one that it is, if static    */
    struct host_site site;                 /* where it was initialised, or     */
                                           /* taken first                      */
    uint64_t after;                        /* classes taken inside of it       */
    bool told;                             /* that it was not initialised      */
    uint8_t uses;                          /* enum use                         */
    ffashim_taken use[2];
};

enum use { WITH_IRQS = 1, IN_IRQ = 2 };

static struct class classes[CLASSES];
static unsigned int classes_nr = 1;
static uint16_t serial;

/* The first time that a class was taken inside of another. */
static struct edge {
    uint8_t outer, inner;
    bool wrong;                            /* closes a circle: not part of it  */
    ffashim_taken taken;
} edges[EDGES];
static unsigned int edges_nr;

/* Two locks of one class, by their serial numbers. */
static struct pair {
    uint8_t class;
    uint16_t outer, inner;
    ffashim_taken taken;
} pairs[PAIRS];
static unsigned int pairs_nr;              /* seen: the last are kept         */

void order_forget(void)
{
    for ( unsigned int n = 0; n < classes_nr; n++ )
    {
        classes[n].after = 0;
        classes[n].uses = 0;
        classes[n].told = false;
    }
    edges_nr = pairs_nr = 0;
}

/* ---- Who a lock is ------------------------------------------------------- */

static unsigned int class_new(const void *lock, const struct host_site *site)
{
    if ( classes_nr == CLASSES )
        host_fault(FFASHIM_MISUSE, NULL, 0, "more than %d classes of locks",
                   CLASSES - 1);
    classes[classes_nr] = (struct class){ .lock = lock, .site = *site };

    return classes_nr++;
}

static unsigned int class_of_site(const struct host_site *site)
{
    for ( unsigned int n = 1; n < classes_nr; n++ )
        if ( !classes[n].lock && classes[n].site.line == site->line &&
             classes[n].site.file == site->file )
            return n;

    return class_new(NULL, site);
}

static unsigned int class_of_static(const struct held *lock)
{
    for ( unsigned int n = 1; n < classes_nr; n++ )
        if ( classes[n].lock == lock->lock )
            return n;

    return class_new(lock->lock, &lock->site);
}

/* As it stands in a lock. Where they repeat, begin with a clean slate. */
static uint32_t next_serial(void)
{
    if ( !++serial )
        pairs_nr = 0;

    return (uint32_t)serial << 16;
}

void host_lock_init(uint32_t *tag, const char *name, const char *file,
                    unsigned int line)
{
    const struct host_site site = { name, file, line, NULL };

    *tag = class_of_site(&site) | next_serial();
}


/* ---- What is wrong with it ----------------------------------------------- */

static const char *name_of(unsigned int class)
{
    return classes[class].site.name ? classes[class].site.name : "a lock";
}

ffashim_lock order_describe(const struct held *h)
{
    return (ffashim_lock){
        .lock = (uintptr_t)h->lock, .mode = h->mode, .line = h->site.line,
        .name = h->site.name, .file = h->site.file, .caller = h->caller,
    };
}

static ffashim_taken taken(const struct held *outer, const struct held *inner)
{
    ffashim_taken t = { .inner = order_describe(inner), .call = cpu_call() };

    if ( outer )
        t.outer = order_describe(outer);
    t.frames = fault_frames(t.frame, sizeof(t.frame) / sizeof(t.frame[0]));

    return t;
}

static void tell(ffashim_alarm *alarm, const ffashim_taken *t)
{
    if ( alarm->taken_nr < sizeof(alarm->taken) / sizeof(alarm->taken[0]) )
        alarm->taken[alarm->taken_nr++] = *t;
}

static const struct edge *edge_of(unsigned int outer, unsigned int inner)
{
    for ( unsigned int n = 0; n < edges_nr; n++ )
        if ( edges[n].outer == outer && edges[n].inner == inner &&
             !edges[n].wrong )
            return &edges[n];

    return NULL;
}

/*
 * The shortest way from one class to another by what was taken inside of what:
 * @before tells of each class on it which one comes before. False: none.
 */
static bool way(unsigned int from, unsigned int to, uint8_t before[CLASSES])
{
    uint8_t queue[CLASSES];
    unsigned int head = 0, tail = 0;

    memset(before, 0, CLASSES);
    queue[tail++] = from;
    before[from] = from;
    while ( head < tail )
    {
        unsigned int at = queue[head++];

        for ( unsigned int n = 1; n < classes_nr; n++ )
        {
            if ( before[n] || !edge_of(at, n) )
                continue;
            before[n] = at;
            if ( n == to )
                return true;
            queue[tail++] = n;
        }
    }

    return false;
}

/* Locks that nobody has initialised: those that Xen calls the same are a class. */
static unsigned int class_of_name(const struct held *want, bool tell_so)
{
    unsigned int n;

    for ( n = 1; n < classes_nr; n++ )
        if ( !classes[n].lock && want->site.name && classes[n].site.name &&
             !strcmp(classes[n].site.name, want->site.name) )
            break;
    if ( n == classes_nr )
        n = class_new(NULL, &want->site);
    if ( tell_so && !classes[n].told )
    {
        const ffashim_taken now = taken(NULL, want);

        classes[n].told = true;
        tell(alarm_new(FFASHIM_ALARM_INIT,
                       "%s is taken before spin_lock_init() or rwlock_init()",
                       name_of(n)), &now);
    }

    return n;
}

/* A lock whose word tells no class: it is taken for the first time. */
static uint32_t identify(const struct held *want)
{
    bool xens;

    if ( !heap_in_block(want->site.tag, &xens) )
        return class_of_static(want);

    /*
     * Zero is what an unlocked lock mostly is, so it works. The machine leaves
     * those of a domain at that, which are not the mediator's to initialise.
     */
    if ( !*want->site.tag )
        return class_of_name(want, xens) | next_serial();

    host_fault(FFASHIM_MEMORY, want->site.file, want->site.line, "%s is taken %s",
               want->site.name ? want->site.name : "a lock",
               (uint8_t)*want->site.tag == HOST_STALE
               ? "after its memory was freed"
               : "before spin_lock_init() or rwlock_init()");
}

void order_identify(struct held *want)
{
    uint32_t *tag = want->site.tag;

    if ( !tag )
        return;
    if ( (uint16_t)*tag - 1U >= classes_nr - 1U )
        *tag = identify(want);
    want->class = *tag;
    want->serial = *tag >> 16;
}

/* Two classes that were never taken in this order before. */
static void new_order(const struct held *outer, const struct held *inner)
{
    struct edge *e = &edges[edges_nr];
    uint8_t before[CLASSES];
    ffashim_alarm *alarm;

    classes[outer->class].after |= 1ULL << inner->class;
    if ( edges_nr == EDGES )
        host_fault(FFASHIM_MISUSE, NULL, 0,
                   "locks of more than %d pairs of classes, one inside of the "
                   "other", EDGES);
    *e = (struct edge){ outer->class, inner->class, false,
                        taken(outer, inner) };
    e->wrong = way(inner->class, outer->class, before);
    edges_nr++;
    if ( !e->wrong )
        return;

    alarm = alarm_new(FFASHIM_ALARM_ORDER,
                      "%s is taken inside of %s, and elsewhere the other way "
                      "round: CPUs that meet wait for each other for ever",
                      name_of(inner->class), name_of(outer->class));
    tell(alarm, &e->taken);
    for ( unsigned int n = outer->class; n != inner->class; n = before[n] )
        tell(alarm, &edge_of(before[n], n)->taken);
}

/* A second lock of the same class: what matters is which one comes first. */
static void same_class(const struct held *outer, const struct held *inner)
{
    const ffashim_taken now = taken(outer, inner);
    ffashim_alarm *alarm;
    struct pair *p;

    for ( unsigned int n = 0; n < pairs_nr && n < PAIRS; n++ )
    {
        p = &pairs[n];
        if ( p->class != outer->class )
            continue;
        if ( p->outer == outer->serial && p->inner == inner->serial )
            return;
        if ( p->outer != inner->serial || p->inner != outer->serial )
            continue;
        alarm = alarm_new(FFASHIM_ALARM_ORDER,
                          "two of %s are taken one inside of the other, in "
                          "either order: CPUs that meet wait for each other "
                          "for ever", name_of(outer->class));
        tell(alarm, &now);
        tell(alarm, &p->taken);
        p->outer = outer->serial;          /* say it once                     */
        p->inner = inner->serial;
        return;
    }

    p = &pairs[pairs_nr++ % PAIRS];
    *p = (struct pair){ outer->class, outer->serial, inner->serial,
                        now };
}

/* The first time that a class is used like this. */
static void new_use(const struct held *want, enum use use)
{
    struct class *class = &classes[want->class];
    ffashim_alarm *alarm;

    class->uses |= use;
    class->use[use - 1] = taken(NULL, want);
    if ( class->uses != (WITH_IRQS | IN_IRQ) )
        return;

    alarm = alarm_new(FFASHIM_ALARM_IRQ,
                      "%s is taken with interrupts on, and by an interrupt: "
                      "which waits for ever on the CPU that holds it",
                      name_of(want->class));
    tell(alarm, &class->use[0]);
    tell(alarm, &class->use[1]);
}

/*
 * @want is taken, inside of all that the CPU holds. Where it only tried, it
 * would not have waited.
 */
void order_check(const struct held *held, unsigned int nr,
                 const struct held *want, bool waits)
{
    enum use use = cpu_in_irq() ? IN_IRQ : WITH_IRQS;

    if ( !want->class )
        return;

    if ( !(classes[want->class].uses & use) &&
         (use == IN_IRQ ? waits : !host_irqs_off()) )
        new_use(want, use);

    for ( ; waits && nr; nr--, held++ )
    {
        if ( held->class == want->class )
            same_class(held, want);
        else if ( held->class &&
                  !(classes[held->class].after >> want->class & 1) )
            new_order(held, want);
    }
}
