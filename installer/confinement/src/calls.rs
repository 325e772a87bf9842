//! seccomp (`seccomp(2)`): which system calls can still be made, and with which arguments.
//!
//! Three filters lie over each other; the kernel takes the severest answer. One answers `ENOSYS` to
//! `clone3`, whose flags a filter cannot see: the C library then takes `clone`, whose flags it can, and
//! only threads start. One names what no reader ever has a reason for (programs, sockets, other
//! processes, the kernel's own controls): whoever asks for that is no reader any more, and the process is
//! killed on the spot. The last names what reading needs and answers `EPERM` to all else, so that a
//! newer C library that tries something finds another way or an error, not its death; it comes last
//! because it forbids further filters too.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Rules by system call; none means: whatever its arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Made<T> = Result<T, BackendError>;

/// Installs the filters in every thread; why they could not be, otherwise.
pub(crate) fn restrict() -> Result<(), String> {
    let programs = programs().map_err(|error| error.to_string())?;
    programs.iter().try_for_each(|program| apply_filter_all_threads(program)).map_err(|error| error.to_string())
}

fn programs() -> Made<[BpfProgram; 3]> {
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    Ok([
        program(all(&[libc::SYS_clone3]), SeccompAction::Allow, errno(libc::ENOSYS))?,
        program(all(&NEVER), SeccompAction::Allow, SeccompAction::KillProcess)?,
        program(needed()?, errno(libc::EPERM), SeccompAction::Allow)?,
    ])
}

fn program(rules: Rules, others: SeccompAction, these: SeccompAction) -> Made<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, others, these, arch)?.try_into()
}

fn all(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// What reading needs.
fn needed() -> Made<Rules> {
    let mut rules = all(&READING);
    rules.extend(all(OF_THIS_MACHINE));
    // Let through here for the filter that answers it: of two errors the one set last would be given.
    rules.extend(all(&[libc::SYS_clone3]));
    let fd_of_ours = rule([SeccompCondition::new(0, Len::Dword, Op::Le, 2)?])?;
    rules.insert(libc::SYS_write, vec![fd_of_ours.clone()]);
    rules.insert(libc::SYS_writev, vec![fd_of_ours]);
    // Without Landlock this alone keeps every file as it is.
    let changes = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
    rules.insert(libc::SYS_openat, vec![rule([without(2, changes)?])?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule([without(2, libc::PROT_EXEC)?])?]);
    }
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let threads = SeccompCondition::new(0, Len::Qword, Op::MaskedEq(thread), thread)?;
    rules.insert(libc::SYS_clone, vec![rule([threads])?]);
    // abort(3) ends this process, and no signal goes to another.
    let own = SeccompCondition::new(0, Len::Dword, Op::Eq, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![rule([own])?]);
    // Limits can be asked for, not set.
    let asks = SeccompCondition::new(2, Len::Qword, Op::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![rule([asks])?]);
    rules.insert(libc::SYS_prctl, any_of(0, &PRCTL)?);
    rules.insert(libc::SYS_ioctl, any_of(1, &IOCTL)?);
    Ok(rules)
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Made<SeccompRule> {
    SeccompRule::new(conditions.into())
}

/// That an argument has none of these bits.
fn without(argument: u8, bits: i32) -> Made<SeccompCondition> {
    SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(u64::from(bits.unsigned_abs())), 0)
}

fn any_of(argument: u8, values: &[u64]) -> Made<Vec<SeccompRule>> {
    values.iter().map(|value| rule([SeccompCondition::new(argument, Len::Dword, Op::Eq, *value)?])).collect()
}

/// Calls with whatever arguments: reading what is open, looking at files, memory, threads, time,
/// randomness, the end.
const READING: [i64; 64] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Older forms of the same that x86-64 alone has.
#[cfg(target_arch = "x86_64")]
const OF_THIS_MACHINE: &[i64] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_getdents,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_MACHINE: &[i64] = &[];

/// Names of threads and of memory, for whoever debugs.
const PRCTL: [u64; 3] = [15, 16, 0x5356_4d41];
/// Whether a descriptor is a terminal (old and new form), and how wide it is.
const IOCTL: [u64; 3] = [libc::TCGETS, 0x802c_542a, libc::TIOCGWINSZ];

/// What nobody who reads a bundle has a reason for.
const NEVER: [i64; 61] = [
    // programs and processes
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    // sockets
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    // who and where this process is
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // the kernel
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_memfd_create,
    libc::SYS_reboot,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_swapon,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed_and_forbidden_at_once() {
        let needed = needed().unwrap();
        let both: Vec<&i64> = NEVER.iter().filter(|call| needed.contains_key(call)).collect();
        assert_eq!(both, Vec::<&i64>::new());
        programs().unwrap();
    }
}
