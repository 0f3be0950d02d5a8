//! What the device can do at most: bytes read from its memory, and products of tiles in registers.

use std::time::Instant;

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;
use half::bf16;

/// Bytes and operations (a product and its sum are two) a second.
pub struct Limits {
    pub bytes: f64,
    pub products: f64,
}

const UNITS: u32 = 256;
const CUBES: u32 = 132 * 16;
const STEPS: u32 = 4096;
/// Tiles of a plane, so that products do not wait for each other.
const TILES: usize = 8;

/// Sums a buffer, 16 bytes a unit at a time.
#[cube(launch_unchecked)]
fn read_all(values: &[Vector<f32, Const<4>>], out: &mut [f32], each: u32) {
    let stride = CUBE_COUNT * UNITS as usize;
    let mut sum = Vector::<f32, Const<4>>::new(0.0f32);
    for turn in 0..each as usize {
        sum += values[turn * stride + ABSOLUTE_POS];
    }
    out[ABSOLUTE_POS] = sum.vector_sum();
}

/// Products of tiles that stay in registers.
#[cube(launch_unchecked)]
fn multiply_all(out: &mut [f32], steps: u32) {
    let product = MmaDefinition::<bf16, bf16, f32>::new(16usize, 8usize, 16usize);
    let mut left = Array::<Vector<bf16, Const<2>>>::new(4usize);
    let mut right = Array::<Vector<bf16, Const<2>>>::new(2usize);
    #[unroll]
    for i in 0..4usize {
        left[i] = Vector::cast_from(UNIT_POS as f32);
    }
    #[unroll]
    for i in 0..2usize {
        right[i] = Vector::cast_from(UNIT_POS as f32 * 0.5f32);
    }
    let mut sums = Sequence::<Array<Vector<f32, Const<2>>>>::new();
    #[unroll]
    for _ in 0..TILES {
        let mut sum = Array::<Vector<f32, Const<2>>>::new(2usize);
        #[unroll]
        for i in 0..2usize {
            sum[i] = Vector::new(0.0f32);
        }
        sums.push(sum);
    }
    for _ in 0..steps {
        #[unroll]
        for t in 0..TILES {
            product.execute_inplace(&left, &right, sums.index_mut(t));
        }
    }
    let mut total = 0.0f32;
    #[unroll]
    for t in 0..TILES {
        total += sums.index(t)[0].extract(0usize) + sums.index(t)[1].extract(1usize);
    }
    out[ABSOLUTE_POS] = total;
}

/// The best of several rounds of each.
pub fn measure(client: &Client) -> Limits {
    let units = (CUBES * UNITS) as usize;
    let each = 384;
    let values = units * each * 4;
    let buffer = client.empty(values * 4);
    let out = client.empty(units * 4);
    let time = |launch: &dyn Fn()| {
        let mut best = f64::INFINITY;
        for _ in 0..8 {
            let begun = Instant::now();
            launch();
            if cubecl::future::block_on(client.sync()).is_err() {
                return f64::NAN;
            }
            best = best.min(begun.elapsed().as_secs_f64());
        }
        best
    };
    // SAFETY: `values` is what all units read, `units` what they write.
    let reading = time(&|| unsafe {
        read_all::launch_unchecked(
            client,
            CubeCount::Static(CUBES, 1, 1),
            CubeDim::new_1d(UNITS),
            BufferArg::from_raw_parts(buffer.clone(), values),
            BufferArg::from_raw_parts(out.clone(), units),
            each as u32,
        );
    });
    // SAFETY: as above.
    let multiplying = time(&|| unsafe {
        multiply_all::launch_unchecked(
            client,
            CubeCount::Static(CUBES, 1, 1),
            CubeDim::new_1d(UNITS),
            BufferArg::from_raw_parts(out.clone(), units),
            STEPS,
        );
    });
    let planes = (CUBES * UNITS / 32) as f64;
    Limits {
        bytes: (values * 4) as f64 / reading,
        products: planes * f64::from(STEPS) * TILES as f64 * (2 * 16 * 8 * 16) as f64 / multiplying,
    }
}
