/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What surrounds the trap: the guest's registers, the SMC instruction itself,
 * and the neighbours of the mediator in arch/arm/vsmc.c.
 */
#include <xen/lib.h>
#include <xen/sched.h>

#include <asm/cpuerrata.h>
#include <asm/cpufeature.h>
#include <asm/regs.h>
#include <asm/smccc.h>

#include "machine.h"

/* Filled anew by each call: nothing later depends on what it holds. */
struct cpu_info host_cpu_info[FFASHIM_CPUS]
    __section(".data.ffashim.past") = {};
uint32_t smccc_ver = ARM_SMCCC_VERSION_1_2;

DECLARE_BITMAP(cpu_hwcaps, ARM_NCAPS);
enum ssbd_state ssbd_state = ARM_SSBD_UNKNOWN;

static register_t *user_reg(struct cpu_user_regs *regs, int reg)
{
    /* x0 to x30 lie in a row at the start of the frame. */
    BUILD_BUG_ON(offsetof(struct cpu_user_regs, x0) != 0);
    BUILD_BUG_ON(offsetof(struct cpu_user_regs, x17) != 17 * 8);

    if ( reg < 0 || reg > 30 )
        host_fault(FFASHIM_BUG, NULL, 0, "there is no register x%d", reg);

    return &regs->x0 + reg;
}

register_t get_user_reg(struct cpu_user_regs *regs, int reg)
{
    return *user_reg(regs, reg);
}

void set_user_reg(struct cpu_user_regs *regs, int reg, register_t val)
{
    *user_reg(regs, reg) = val;
    if ( FFASHIM_CHECKS && reg < 18 )
        host_set_by[reg] = __builtin_return_address(0);
}

void arm_smccc_1_2_smc(const struct arm_smccc_1_2_regs *args,
                       struct arm_smccc_1_2_regs *res)
{
    uint64_t regs[18];

    BUILD_BUG_ON(sizeof(*args) != sizeof(regs));

    memcpy(regs, args, sizeof(regs));
    host_smc(regs);
    memcpy(res, regs, sizeof(regs));
}

void __arm_smccc_1_0_smc(register_t a0, register_t a1, register_t a2,
                         register_t a3, register_t a4, register_t a5,
                         register_t a6, register_t a7,
                         struct arm_smccc_res *res)
{
    uint64_t regs[18] = { a0, a1, a2, a3, a4, a5, a6, a7 };

    host_smc(regs);
    *res = (struct arm_smccc_res){ regs[0], regs[1], regs[2], regs[3] };
}

/* ---- Neighbours in vsmc.c ------------------------------------------------ */

bool do_vpsci_0_1_call(struct cpu_user_regs *regs, uint32_t fid);
bool do_vpsci_0_2_call(struct cpu_user_regs *regs, uint32_t fid);
bool platform_smc(struct cpu_user_regs *regs);
bool sci_handle_call(struct cpu_user_regs *regs);
bool scmi_handle_smc(struct cpu_user_regs *regs);
int monitor_smc(void);

bool do_vpsci_0_1_call(struct cpu_user_regs *regs, uint32_t fid)
{
    return false;
}

bool do_vpsci_0_2_call(struct cpu_user_regs *regs, uint32_t fid)
{
    return false;
}

bool platform_smc(struct cpu_user_regs *regs)
{
    return false;
}

bool sci_handle_call(struct cpu_user_regs *regs)
{
    return false;
}

bool scmi_handle_smc(struct cpu_user_regs *regs)
{
    return false;
}

int monitor_smc(void)
{
    return 0;
}
