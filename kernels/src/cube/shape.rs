//! How a kernel is cut: known when it is compiled, one set of numbers for each kind of device.

/// The documents that the smallest tile of a product spans.
pub(crate) const TILE_DOCUMENTS: usize = 8;
/// The queries that it spans.
pub(crate) const TILE_QUERIES: usize = 16;
/// 16-byte vectors that are multiplied in one step: 64 bytes of a row, a vector for each of four units.
pub(crate) const STEP_VECTORS: usize = 4;
/// Rows on the device have a multiple of so many vectors: two steps.
pub(crate) const WIDTH_VECTORS: usize = 2 * STEP_VECTORS;
/// The shared memory that the tensor kernels ask for, in bytes: what every device of compute capability 8.0 or more
/// offers. They take more where there is more, if that holds more queries.
pub(crate) const SHARED_BYTES: usize = 99 * 1024;
/// Bytes of a vector, that one load reads.
pub(crate) const VECTOR_BYTES: usize = 16;
/// Components of halves, f16 or bf16, in a vector.
pub(crate) const LANES: usize = 8;
/// Components of codes, int8, in a vector.
pub(crate) const CODE_LANES: usize = 16;

/// The shape of the tile kernel: a cube holds a block of queries in shared memory, and each of its planes scores
/// `document_tiles` tiles of documents against one of their groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Units that execute together.
    pub plane: usize,
    pub planes: usize,
    pub document_tiles: usize,
    /// Of a group.
    pub query_tiles: usize,
    /// Groups that the cube's queries are in. So many planes score the same documents, of which all but the first find them
    /// in the cache that planes of a cube share.
    pub groups: usize,
    /// 16-byte vectors of a query that are held at a time: a multiple of [`WIDTH_VECTORS`]. Rows that are longer bring
    /// them again for each part.
    pub depth: usize,
    /// Rows are codes, which products add up in whole numbers; otherwise halves.
    pub coded: bool,
    /// Multiply on the tensor cores; otherwise by the plain twin of the same function.
    pub tensor: bool,
    /// Look at the mask of live documents.
    pub masked: bool,
}

impl Shape {
    /// The block of a device with planes of 32 units and tensor cores, for this many queries and rows of `width`
    /// vectors.
    ///
    /// For many, a plane scores 64 documents against 64 queries: sums are half of a unit's registers, the documents of
    /// two steps a quarter. Each block of queries reads all documents, so where shared memory has room a cube holds two
    /// groups. For few, the documents' bytes are what costs, and smaller cubes leave room for more of them,
    /// each with loads on their way.
    pub const fn tensor(queries: usize, width: usize, masked: bool, coded: bool, shared: usize) -> Shape {
        let (planes, document_tiles, query_tiles) = if coded && queries <= TILE_QUERIES {
            (4, 8, 1)
        } else if queries <= 32 {
            (4, 4, 2)
        } else {
            (8, 8, 4)
        };
        let group = query_tiles * TILE_QUERIES;
        let groups = if queries > group && group > 32 && 2 * group * width * VECTOR_BYTES <= shared {
            2
        } else {
            1
        };
        Shape {
            plane: 32,
            planes,
            document_tiles,
            query_tiles,
            groups,
            depth: depth(width, shared / (groups * group * VECTOR_BYTES)),
            coded,
            tensor: true,
            masked,
        }
    }

    /// A small block for devices without tensor cores, whatever their planes: of two planes, as CubeCL's CPU runtime has no
    /// good way to run more than there are processors. Of codes they share documents, of halves queries, so that tests see
    /// both.
    pub const fn plain(plane: usize, masked: bool, coded: bool) -> Shape {
        Shape {
            plane,
            planes: 2,
            document_tiles: if coded { 2 } else { 1 },
            query_tiles: 1,
            groups: if coded { 2 } else { 1 },
            depth: WIDTH_VECTORS,
            coded,
            tensor: false,
            masked,
        }
    }

    pub const fn units(self) -> usize {
        self.planes * self.plane
    }

    /// Documents a cube scores.
    pub const fn documents(self) -> usize {
        self.planes / self.groups * self.document_tiles * TILE_DOCUMENTS
    }

    /// Queries a cube scores.
    pub const fn queries(self) -> usize {
        self.groups * self.query_tiles * TILE_QUERIES
    }

    /// Components of a vector.
    pub const fn lanes(self) -> usize {
        if self.coded { CODE_LANES } else { LANES }
    }

    /// Components that one 32-bit register of a product holds: a quarter of a vector.
    pub const fn word(self) -> usize {
        self.lanes() / 4
    }

    /// Components that a product of the tensor cores spans: two registers of each of four units.
    pub const fn product(self) -> usize {
        2 * self.lanes()
    }

    /// Pairs of scores (one query, two neighbouring documents) that a unit holds of a tile.
    pub const fn pairs(self) -> usize {
        TILE_DOCUMENTS * TILE_QUERIES / 2 / self.plane
    }

    /// Tiles of a plane.
    pub const fn tiles(self) -> usize {
        self.document_tiles * self.query_tiles
    }
}

/// A row's vectors in as few equal parts as have room for `most` each.
const fn depth(width: usize, most: usize) -> usize {
    let most = most / WIDTH_VECTORS * WIDTH_VECTORS;
    width
        .div_ceil(width.div_ceil(most))
        .next_multiple_of(WIDTH_VECTORS)
}

const _: () = {
    const MORE: usize = 227 * 1024;
    let shapes = [
        Shape::tensor(1, 96, true, false, SHARED_BYTES),
        Shape::tensor(1, 48, true, true, SHARED_BYTES),
        Shape::tensor(32, 48, true, true, SHARED_BYTES),
        Shape::tensor(1024, 96, true, false, SHARED_BYTES),
        Shape::tensor(1024, 96, true, false, MORE),
        Shape::tensor(1024, 48, true, true, SHARED_BYTES),
        Shape::tensor(1024, 8, true, false, SHARED_BYTES),
        Shape::tensor(1024, 512, true, false, MORE),
        Shape::plain(1, true, false),
        Shape::plain(8, true, true),
        Shape::plain(32, true, false),
    ];
    assert!(shapes[3].groups == 1 && shapes[4].groups == 2 && shapes[5].groups == 2);
    let mut i = 0;
    while i < shapes.len() {
        let shape = shapes[i];
        assert!(super::resident::ROW_MULTIPLE.is_multiple_of(shape.documents()));
        assert!(shape.pairs() > 0);
        assert!(shape.depth > 0 && shape.depth.is_multiple_of(WIDTH_VECTORS));
        assert!(shape.planes.is_multiple_of(shape.groups));
        // A tile's turn times the step between tiles, which is less than two thirds of them, in 32 bits.
        let tiles = (super::resident::BLOCK_ROWS / shape.documents()) as u64;
        assert!(tiles * (tiles / 3 * 2) < 1 << 32);
        assert!(shape.queries() * shape.depth * VECTOR_BYTES <= MORE);
        i += 1;
    }
    // A query tile's rows of eight vectors span the banks of shared memory.
    assert!(WIDTH_VECTORS == 8);
};

/// The shape of the row kernel, for few queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RowShape {
    pub plane: usize,
    pub planes: usize,
    /// Documents a plane reads at a time.
    pub rows: usize,
    /// Documents a cube scores.
    pub documents: usize,
    /// Queries: 1, 2, 4 or 8.
    pub queries: usize,
    pub masked: bool,
}

impl RowShape {
    /// The shape for 1, 2, 4 or 8 queries.
    pub fn new(plane: usize, queries: usize, masked: bool) -> RowShape {
        let planes = if plane == 1 { 2 } else { 256 / plane };
        // As many as leave the sums of all queries in registers.
        let rows = if queries > 4 { 2 } else { 4 };
        RowShape {
            plane,
            planes,
            rows,
            // A power of two, as rows are padded to 256.
            documents: (planes * rows).max(32),
            queries,
            masked,
        }
    }
}
