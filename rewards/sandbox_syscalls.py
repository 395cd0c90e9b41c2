"""Numbers of Linux's system calls on x86_64 and aarch64, and which of them a sandboxed program may make.

Numbers: the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``; ``-`` where
an architecture lacks the call. Whatever is not in the table fails within the program with EPERM.
"""

import os

# AUDIT_ARCH_* of include/uapi/linux/audit.h
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_TABLE = """
accept 43 202, accept4 288 242, access 21 -, acct 163 89, add_key 248 217, adjtimex 159 171, alarm 37 -,
arch_prctl 158 -, bind 49 200, bpf 321 280, brk 12 214, capget 125 90, capset 126 91, chdir 80 49, chroot 161 51,
clock_adjtime 305 266, clock_getres 229 114, clock_gettime 228 113, clock_nanosleep 230 115, clock_settime 227 112,
clone 56 220, clone3 435 435, close 3 57, close_range 436 436, connect 42 203, copy_file_range 326 285, creat 85 -,
delete_module 176 106, dup 32 23, dup2 33 -, dup3 292 24, epoll_create 213 -, epoll_create1 291 20,
epoll_ctl 233 21, epoll_pwait 281 22, epoll_pwait2 441 441, epoll_wait 232 -, eventfd 284 -, eventfd2 290 19,
execve 59 221, execveat 322 281, exit 60 93, exit_group 231 94, faccessat 269 48, faccessat2 439 439,
fadvise64 221 223, fallocate 285 47, fanotify_init 300 262, fanotify_mark 301 263, fchdir 81 50, fcntl 72 25,
fdatasync 75 83, finit_module 313 273, flock 73 32, fork 57 -, fsconfig 431 431, fsmount 432 432, fsopen 430 430,
fspick 433 433, fstat 5 80, fstatfs 138 44, fsync 74 82, ftruncate 77 46, futex 202 98, get_robust_list 274 100,
getcpu 309 168, getcwd 79 17, getdents 78 -, getdents64 217 61, getegid 108 177, geteuid 107 175, getgid 104 176,
getgroups 115 158, getitimer 36 102, getpeername 52 205, getpgid 121 155, getpgrp 111 -, getpid 39 172,
getppid 110 173, getpriority 140 141, getrandom 318 278, getresgid 120 150, getresuid 118 148, getrlimit 97 163,
getrusage 98 165, getsid 124 156, getsockname 51 204, getsockopt 55 209, gettid 186 178, gettimeofday 96 169,
getuid 102 174, init_module 175 105, io_setup 206 0, io_submit 209 2, io_uring_enter 426 426,
io_uring_register 427 427, io_uring_setup 425 425, ioctl 16 29, ioperm 173 -, iopl 172 -, kcmp 312 272,
kexec_file_load 320 294, kexec_load 246 104, keyctl 250 219, kill 62 129, landlock_add_rule 445 445,
landlock_create_ruleset 444 444, landlock_restrict_self 446 446, link 86 -, linkat 265 37, listen 50 201,
lseek 8 62, lstat 6 -, madvise 28 233, membarrier 324 283, mincore 27 232, mkdir 83 -, mkdirat 258 34, mmap 9 222,
modify_ldt 154 -, mount 165 40, mount_setattr 442 442, move_mount 429 429, mprotect 10 226, mq_notify 244 184,
mq_open 240 180, mremap 25 216, msgget 68 186, msgrcv 70 188, msgsnd 69 189, msync 26 227, munmap 11 215,
name_to_handle_at 303 264, nanosleep 35 101, newfstatat 262 79, open 2 -, open_by_handle_at 304 265,
open_tree 428 428, openat 257 56, pause 34 -, perf_event_open 298 241, pidfd_getfd 438 438,
pidfd_send_signal 424 424, pipe 22 -, pipe2 293 59, pivot_root 155 41, poll 7 -, ppoll 271 73, prctl 157 167,
pread64 17 67, preadv 295 69, prlimit64 302 261, process_madvise 440 440, process_vm_readv 310 270,
process_vm_writev 311 271, pselect6 270 72, ptrace 101 117, pwrite64 18 68, pwritev 296 70, quotactl 179 60,
read 0 63, readlink 89 -, readlinkat 267 78, readv 19 65, reboot 169 142, recvfrom 45 207, recvmsg 47 212,
rename 82 -, renameat 264 38, renameat2 316 276, request_key 249 218, restart_syscall 219 128, rmdir 84 -,
rseq 334 293, rt_sigaction 13 134, rt_sigpending 127 136, rt_sigprocmask 14 135, rt_sigqueueinfo 129 138,
rt_sigreturn 15 139, rt_sigsuspend 130 133, rt_sigtimedwait 128 137, rt_tgsigqueueinfo 297 240,
sched_get_priority_max 146 125, sched_get_priority_min 147 126, sched_getaffinity 204 123, sched_getparam 143 121,
sched_getscheduler 145 120, sched_yield 24 124, seccomp 317 277, select 23 -, semget 64 190, semop 65 193,
sendfile 40 71, sendmsg 46 211, sendto 44 206, set_robust_list 273 99, set_tid_address 218 96,
setdomainname 171 162, setfsgid 123 152, setfsuid 122 151, setgid 106 144, setgroups 116 159, sethostname 170 161,
setitimer 38 103, setns 308 268, setregid 114 143, setresgid 119 149, setresuid 117 147, setreuid 113 145,
setrlimit 160 164, setsockopt 54 208, settimeofday 164 170, setuid 105 146, shmat 30 196, shmctl 31 195,
shmget 29 194, shutdown 48 210, sigaltstack 131 132, socket 41 198, socketpair 53 199, stat 4 -, statfs 137 43,
statx 332 291, swapoff 168 225, swapon 167 224, symlink 88 -, symlinkat 266 36, sysinfo 99 179, syslog 103 116,
tgkill 234 131, time 201 -, times 100 153, tkill 200 130, umask 95 166, umount2 166 39, uname 63 160, unlink 87 -,
unlinkat 263 35, unshare 272 97, userfaultfd 323 282, vfork 58 -, wait4 61 260, waitid 247 95, write 1 64,
writev 20 66
"""

MACHINE = os.uname().machine
_COLUMN = {"x86_64": 1, "aarch64": 2}.get(MACHINE)
_ROWS = [entry.split() for entry in _TABLE.replace("\n", " ").split(",")]

# Empty on any other machine: there the sandbox says that it is unavailable.
NUMBERS = {row[0]: int(row[_COLUMN]) for row in _ROWS if row[_COLUMN] != "-"} if _COLUMN else {}

# Harmless whatever their arguments, once files are confined by mounts and Landlock. Left out: calls that Landlock does
# not see (chmod, chown, utimes, xattr, truncate by path), and what takes memory that no limit counts (memfd).
_ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev close close_range lseek stat lstat fstat newfstatat
statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat
rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat mmap munmap mprotect mremap
madvise brk msync mincore futex set_robust_list get_robust_list rseq set_tid_address sched_yield
sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getcpu
nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times getrusage getitimer setitimer
alarm pause rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigpending rt_sigtimedwait sigaltstack
restart_syscall exit exit_group getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid
getgroups getpgid getpgrp getsid getpriority capget uname sysinfo getrandom getrlimit dup dup2 dup3 pipe
pipe2 flock poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
epoll_pwait2 eventfd eventfd2 ftruncate fallocate fsync fdatasync sendfile copy_file_range fadvise64 umask
statfs fstatfs sendmsg recvfrom recvmsg shutdown getsockopt setsockopt getsockname getpeername membarrier
arch_prctl wait4 waitid
"""

# A program has no innocent reason for these, and ends with the first: the verdict then says which.
_FORBIDDEN = """
accept accept4 acct add_key adjtimex bind bpf capset chroot clock_adjtime clock_settime connect
delete_module execve execveat fanotify_init fanotify_mark finit_module fork fsconfig fsmount fsopen fspick
init_module io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
kexec_file_load kexec_load keyctl landlock_add_rule landlock_create_ruleset landlock_restrict_self listen
modify_ldt mount mount_setattr move_mount mq_notify mq_open msgget msgrcv msgsnd name_to_handle_at
open_by_handle_at open_tree perf_event_open pidfd_getfd pidfd_send_signal pivot_root process_madvise
process_vm_readv process_vm_writev ptrace quotactl reboot request_key rt_sigqueueinfo rt_tgsigqueueinfo
seccomp semget semop setdomainname setfsgid setfsuid setgid setgroups sethostname setns setregid setresgid
setresuid setreuid settimeofday setuid shmat shmctl shmget socket swapoff swapon syslog tkill umount2
unshare userfaultfd vfork
"""

ALLOWED, FORBIDDEN = frozenset(_ALLOWED.split()), frozenset(_FORBIDDEN.split())
