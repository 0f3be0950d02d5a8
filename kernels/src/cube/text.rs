//! What the kernels become on a CUDA device, without one: PTX by LLVM, which CubeCL loads by default,
//! and CUDA C++, which it can hand to NVRTC instead. For tests and for reading.

use std::ffi::CStr;
use std::sync::Arc;

use cubecl::Compiler;
use cubecl::features::Features;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::nvidia::SmArch;
use cubecl::ir::{DeviceIdentity, ElemType, FloatKind, HardwareProperties, MemoryDeviceProperties};
use cubecl::prelude::*;
use cubecl_cpp::shared::{CompilationOptions, CppCompiler};
use cubecl_cpp::target::Cuda;
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler, PlironOptions};
use half::{bf16, f16};

use super::exact::score_exactly;
use super::refine::refine;
use super::rows::score_rows;
use super::select::keep_best;
use super::shape::{CODE_LANES, LANES, RowShape, Shape};
use super::tiles::{RegionCompilationArg, score_tiles};

/// A kernel as text.
#[derive(Debug, Clone)]
pub struct Listing {
    /// What it scores, by its kernel, element and queries.
    pub name: String,
    /// PTX for the architecture that was asked for.
    pub ptx: String,
    /// CUDA C++.
    pub cuda: String,
    /// Bytes of shared memory.
    pub shared: usize,
}

/// Bytes of shared memory that a cube can have there.
const SHARED: usize = 227 * 1024;

/// Every kernel for compute capability `architecture` (90 for 9.0), for a driver of CUDA 13.0.
///
/// # Errors
/// What the compiler says, as text.
pub fn listings(architecture: u32) -> Result<Vec<Listing>, String> {
    let mut listings = Vec::new();
    for (queries, name) in [(32, "few"), (1024, "many")] {
        let shape = Shape::tensor(queries, 768 / LANES, true, false, SHARED);
        listings.push(list(&format!("tiles_f16_{name}"), architecture, || {
            tiles::<f16, f32>(shape)
        })?);
        listings.push(list(&format!("tiles_bf16_{name}"), architecture, || {
            tiles::<bf16, f32>(shape)
        })?);
    }
    for (queries, name) in [(1, "one"), (32, "few"), (1024, "many")] {
        let shape = Shape::tensor(queries, 768 / CODE_LANES, true, true, SHARED);
        listings.push(list(&format!("tiles_codes_{name}"), architecture, || {
            tiles::<i8, i32>(shape)
        })?);
    }
    listings.push(list("refine_f16", architecture, refine_rows::<f16>)?);
    listings.push(list("refine_bf16", architecture, refine_rows::<bf16>)?);
    for queries in [1, 8] {
        listings.push(list(&format!("rows_f16_{queries}"), architecture, || {
            rows::<f16>(queries)
        })?);
        listings.push(list(&format!("rows_bf16_{queries}"), architecture, || {
            rows::<bf16>(queries)
        })?);
    }
    listings.push(list("exact_f16", architecture, exact::<f16>)?);
    listings.push(list("exact_bf16", architecture, exact::<bf16>)?);
    listings.push(list("keep_best", architecture, select)?);
    Ok(listings)
}

fn list<K: CubeKernel>(name: &str, architecture: u32, kernel: impl Fn() -> K) -> Result<Listing, String> {
    let failed = |error: cubecl::CompilationError| format!("{name}: {error:?}");
    let mut compiler = PlironCompiler {
        target: LlvmTarget::Nvptx,
    };
    let options = PlironOptions {
        sm_arch: Some(SmArch::new(architecture, true)),
        ptx_version: PtxVersion::for_driver(13_000),
        grid_constants: true,
        ..Default::default()
    };
    let artifact = compiler.compile(kernel().define(), &options).map_err(failed)?;
    let PlironArtifact::NvptxCode(module) = artifact else {
        return Err(format!("{name}: the compiler made no PTX"));
    };
    let bytes: Vec<u8> = module.ptx.iter().map(|&c| c as u8).collect();
    let ptx = CStr::from_bytes_until_nul(&bytes)
        .map_err(|error| format!("{name}: {error}"))?
        .to_string_lossy()
        .into_owned();
    let mut cpp = CompilationOptions::default();
    cpp.supports_features.grid_constants = true;
    let cuda = CppCompiler::<Cuda>::default()
        .compile(kernel().define(), &cpp)
        .map_err(failed)?
        .to_string();
    Ok(Listing {
        name: name.to_owned(),
        ptx,
        cuda,
        shared: module.shared_memory_size,
    })
}

/// A device of compute capability 9.0, as far as the kernels ask.
fn device() -> Arc<DeviceProperties> {
    let mut features = Features::default();
    for kind in [FloatKind::F16, FloatKind::BF16] {
        features.matmul.ldmatrix.insert(ElemType::Float(kind));
        features.matmul.mma.insert(MmaConfig {
            a_type: ElemType::Float(kind),
            b_type: ElemType::Float(kind),
            cd_type: ElemType::Float(FloatKind::F32),
            m: 16,
            n: 8,
            k: 16,
        });
    }
    features.plane = cubecl::features::Plane::Ops | cubecl::features::Plane::Sync;
    features.memory_reinterpret = true;
    features.alignment = true;
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 32,
        plane_size_max: 32,
        max_bindings: 1024,
        max_shared_memory_size: SHARED,
        max_cube_count: (u32::MAX, u16::MAX.into(), u16::MAX.into()),
        max_units_per_cube: 1024,
        max_cube_dim: (1024, 1024, 64),
        num_streaming_multiprocessors: Some(132),
        num_tensor_cores: Some(4),
        min_tensor_cores_dim: Some(8),
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: VectorSize::MAX,
        cube_mma_reserved_shared_memory: 0,
    };
    Arc::new(DeviceProperties::new(
        features,
        MemoryDeviceProperties::new(u64::MAX, 512),
        hardware,
        cubecl::profile::TimingMethod::Device,
        DeviceIdentity {
            name: "text".to_owned(),
            fingerprint: "text".to_owned(),
            physical: None,
        },
    ))
}

/// What CubeCL's CUDA runtime says of its matrix registers.
fn target() -> Arc<TargetProperties> {
    use cubecl::cmma::MatrixLayout;
    use cubecl::ir::{ContiguousElements, MmaProperties};
    Arc::new(TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(
                cubecl_cpp::cuda::mma::manual::contiguous_elements_cuda,
            ),
        },
    })
}

fn settings(units: usize) -> KernelSettings {
    KernelSettings::new(
        *CubeDim::new_1d(units as u32),
        ExecutionMode::Unchecked,
        AddressType::U32,
    )
}

fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

fn region() -> RegionCompilationArg {
    RegionCompilationArg {
        first: (),
        documents: (),
        rows: (),
        width: (),
        layers: (),
        from: (),
        take: (),
        step: (),
        tiles: (),
        run: (),
        capacity: (),
        layer_step: (),
    }
}

fn tiles<E: Numeric + CubeElement, A: Numeric + CubeElement>(shape: Shape) -> impl CubeKernel {
    score_tiles::ScoreTiles::<E, A>::new(
        settings(shape.units()),
        device(),
        target(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        region(),
        shape.lanes(),
        shape,
    )
}

fn refine_rows<E: Float + CubeElement>() -> impl CubeKernel {
    refine::Refine::<E>::new(
        settings(256),
        device(),
        target(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        (),
        (),
        (),
        (),
        (),
        (),
        (),
        32,
        8,
    )
}

fn rows<E: Float + CubeElement>(queries: usize) -> impl CubeKernel {
    let shape = RowShape::new(32, queries, true);
    score_rows::ScoreRows::<E>::new(
        settings(256),
        device(),
        target(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        region(),
        shape,
    )
}

fn exact<E: Float + CubeElement>() -> impl CubeKernel {
    score_exactly::ScoreExactly::<E>::new(
        settings(256),
        device(),
        target(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        (),
        (),
        (),
        (),
        (),
        (),
        (),
        (),
        256,
    )
}

fn select() -> impl CubeKernel {
    keep_best::KeepBest::new(
        settings(256),
        device(),
        target(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        buffer(),
        (),
        (),
        256,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The products run on tensor cores, from shared memory by `ldmatrix`, with f32 sums that stay in
    /// registers; documents come 16 bytes at a time.
    #[test]
    fn products_are_on_tensor_cores() {
        for listing in listings(90).unwrap() {
            let Listing { name, ptx, cuda, .. } = &listing;
            assert!(ptx.contains(".target sm_90"), "{name}");
            if name.starts_with("tiles") {
                let mma = match name {
                    _ if name.contains("codes") => "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32",
                    _ if name.contains("bf16") => "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
                    _ => "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
                };
                let products = ptx.matches(mma).count();
                let queries = match name {
                    _ if name.ends_with("one") => 1,
                    _ if name.ends_with("few") => 32,
                    _ => 1024,
                };
                let shape = Shape::tensor(queries, 48, true, name.contains("codes"), SHARED);
                assert!(products >= shape.tiles() * 4, "{name}: {products} {mma}");
                assert!(ptx.contains("ldmatrix.sync.aligned.m8n8.x4"), "{name}");
                assert!(cuda.contains(mma), "{name}:\n{cuda}");
                assert!(listing.shared <= SHARED, "{name}: {} bytes", listing.shared);
            }
            if ["tiles", "rows", "refine"]
                .iter()
                .any(|kernel| name.starts_with(kernel))
            {
                assert!(
                    !ptx.contains("ld.local") && !ptx.contains("st.local"),
                    "{name} keeps sums in memory"
                );
                assert!(
                    ptx.contains("ld.global.nc.v4") || ptx.contains("ld.global.v4"),
                    "{name} reads less than 16 bytes at a time"
                );
            }
        }
    }
}
