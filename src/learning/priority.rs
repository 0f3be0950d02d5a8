//! The priority of background threads.

/// How much less the calling thread is favoured, in steps of `nice`.
#[cfg(target_os = "linux")]
const STEPS: i32 = 10;

/// Lowers the calling thread's priority where the system has one for threads; it is a wish, and failing it harms nothing.
pub(super) fn lower() {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes plain numbers; 0 is the calling thread, as Linux has a priority for each.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, STEPS);
    }
}
