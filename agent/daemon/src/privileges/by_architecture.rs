//! System calls that not every architecture has. x86-64 has old ones, which its C library uses; later
//! architectures have those of `asm-generic/unistd.h` only.

#[cfg(target_arch = "x86_64")]
mod calls {
    pub(in super::super) const AGENT: [libc::c_long; 4] = [
        libc::SYS_epoll_wait,
        libc::SYS_poll,
        libc::SYS_readlink,
        libc::SYS_unlink,
    ];
    pub(in super::super) const SUPERVISOR: [libc::c_long; 3] =
        [libc::SYS_arch_prctl, libc::SYS_dup2, libc::SYS_vfork];
}

#[cfg(not(target_arch = "x86_64"))]
mod calls {
    pub(in super::super) const AGENT: [libc::c_long; 4] = [
        libc::SYS_epoll_pwait,
        libc::SYS_ppoll,
        libc::SYS_readlinkat,
        libc::SYS_unlinkat,
    ];
    /// `clone` replaces `vfork`.
    pub(in super::super) const SUPERVISOR: [libc::c_long; 1] = [libc::SYS_dup3];
}

pub(super) use calls::{AGENT, SUPERVISOR};
