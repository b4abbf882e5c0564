//! The kernel's dice, seeded: `syscall(SYS_getrandom)` inside a world.
//!
//! madsim replaces `getrandom`, but older crates (rand 0.8 in raft-rs) ask the kernel by number. The `syscall` below
//! stands in front of libc's: inside a world it sends that one number to `getrandom`, everything else goes through.
//!
//! Not covered: `RDRAND`, `/dev/urandom`, the addresses of objects.
#![allow(unsafe_code, reason = "stands in for a C function")]

use std::ffi::{c_char, c_long, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// libc's own `syscall`, once looked up.
static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

type Syscall =
    unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

fn real() -> Syscall {
    let mut found = REAL.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: asks the dynamic linker for the next symbol of that name.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
        assert!(!found.is_null(), "libc has no `syscall`");
        REAL.store(found, Ordering::Relaxed);
    }
    // SAFETY: libc's `syscall` takes a number and up to six arguments; in the C calling conventions of Linux, which
    // pass integers of variadic functions as those of others, arguments too many are ignored.
    unsafe { std::mem::transmute::<*mut c_void, Syscall>(found) }
}

/// # Safety
/// As libc's: the arguments must be right for the call `number`.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == libc::SYS_getrandom && madsim::runtime::Handle::try_current().is_ok() {
        let (buffer, length) = (a as *mut c_void, b.cast_unsigned() as usize);
        let flags = u32::try_from(c).unwrap_or(0);
        // SAFETY: by the caller; madsim's `getrandom` fills the buffer from the seed.
        return unsafe { libc::getrandom(buffer, length, flags) } as c_long;
    }
    // SAFETY: by the caller.
    unsafe { real()(number, a, b, c, d, e, f) }
}

/// The name of the node whose task runs on this thread; empty outside of a world.
///
/// madsim answers `gethostname` with it. Unlike madsim's own question this one never panics, so a panic hook may ask.
pub(crate) fn current_node() -> String {
    if madsim::runtime::Handle::try_current().is_err() {
        return String::new();
    }
    let mut name = [0_u8; 64];
    // SAFETY: the buffer has the stated length.
    let code = unsafe { libc::gethostname(name.as_mut_ptr().cast::<c_char>(), name.len()) };
    if code != 0 {
        return String::new();
    }
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}
