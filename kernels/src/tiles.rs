//! The matrix tiles of AMX: whether this process may use them, and one thread's registers while it does.
//!
//! The compiler knows nothing of these registers on stable Rust, so whoever multiplies with them does it in blocks of
//! assembly, while a [`TileRegisters`] lives.

use std::marker::PhantomData;

/// What tiles multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TileNumbers {
    /// 8-bit integers into sums of 32 bits.
    Int8,
    /// bf16 into sums in f32.
    Bf16,
}

/// This thread's tile registers, all eight of sixteen rows of 64 bytes, configured until this is dropped. One at a time
/// on a thread: the first that is dropped releases them.
#[derive(Debug)]
pub struct TileRegisters {
    // Registers of one thread: not to be sent to another.
    _here: PhantomData<*const ()>,
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    use super::{TileNumbers, TileRegisters};

    /// What the processor reads to learn the shapes of the tiles.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    static SHAPES: Shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    impl TileRegisters {
        /// Whether the processor has tiles for these numbers and the system lets this process use them; asked once.
        pub fn are_permitted(numbers: TileNumbers) -> bool {
            static INT8: OnceLock<bool> = OnceLock::new();
            static BF16: OnceLock<bool> = OnceLock::new();
            let (known, bit) = match numbers {
                TileNumbers::Int8 => (&INT8, 25),
                TileNumbers::Bf16 => (&BF16, 22),
            };
            *known.get_or_init(|| has_tiles(1 << bit) && ask_system())
        }

        /// This thread's tiles, where they are permitted.
        pub fn configured(numbers: TileNumbers) -> Option<TileRegisters> {
            // SAFETY: they are permitted.
            TileRegisters::are_permitted(numbers).then(|| unsafe { TileRegisters::configure() })
        }

        /// This thread's tiles.
        ///
        /// # Safety
        /// TileRegisters must be permitted.
        pub(crate) unsafe fn configure() -> TileRegisters {
            // SAFETY: the processor has tiles, the system permits them, and the shapes are sound.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
            TileRegisters {
                _here: std::marker::PhantomData,
            }
        }
    }

    impl Drop for TileRegisters {
        fn drop(&mut self) {
            // SAFETY: they were configured. Without this every later switch of threads would save the tiles.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }

    fn has_tiles(numbers: u32) -> bool {
        const TILE: u32 = 1 << 24;
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (TILE | numbers) == TILE | numbers
    }

    /// Linux gives a process the room to save the registers in only when it is asked to.
    #[cfg(target_os = "linux")]
    fn ask_system() -> bool {
        const ARCH_PRCTL: usize = 158;
        const REQUEST_PERMISSION: usize = 0x1023;
        const TILE_DATA: usize = 18;
        let mut answer = ARCH_PRCTL;
        // SAFETY: arch_prctl(2) with this request reads no memory of ours and changes nothing but the permission;
        // the kernel overwrites rax, rcx and r11 and no others.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") answer,
                in("rdi") REQUEST_PERMISSION,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        answer == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_system() -> bool {
        false
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl TileRegisters {
    /// Whether the processor has tiles for these numbers: it has none.
    pub fn are_permitted(_numbers: TileNumbers) -> bool {
        false
    }

    /// None.
    pub fn configured(_numbers: TileNumbers) -> Option<TileRegisters> {
        None
    }
}
