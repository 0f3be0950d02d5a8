//! How a kernel is cut: known when it is compiled, one set of numbers for each kind of device.

/// The documents that the smallest tile of a product spans.
pub(crate) const TILE_DOCUMENTS: usize = 16;
/// The queries that it spans.
pub(crate) const TILE_QUERIES: usize = 8;
/// Rows on the device have a multiple of so many components: that of every slab.
pub(crate) const WIDTH_MULTIPLE: usize = 64;
/// The shared memory that the tensor kernels take at most, in bytes: what every device of compute
/// capability 8.0 or more offers.
pub(crate) const SHARED_BYTES: usize = 99 * 1024;
/// The components of one 16-byte load.
pub(crate) const LANES: usize = 8;

/// The shape of the tile kernel: a cube of `document_planes × query_planes` planes scores a block of
/// documents against a block of queries, a plane `document_tiles × query_tiles` tiles of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Units that execute together.
    pub plane: usize,
    pub document_planes: usize,
    pub query_planes: usize,
    pub document_tiles: usize,
    pub query_tiles: usize,
    /// The components that are brought to shared memory at a time: a multiple of 16.
    pub slab: usize,
    /// Multiply on the tensor cores; otherwise by the plain twin of the same function.
    pub tensor: bool,
    /// Look at the mask of live documents.
    pub masked: bool,
}

impl Shape {
    /// The block of a device with planes of 32 units and tensor cores, for this many queries.
    ///
    /// For many: 128 × 128 by 2 × 4 planes of 64 × 32, so that a plane's accumulators and maxima are
    /// 64 registers each and both operands come from shared memory half as often as with 32 × 32.
    /// For few, the documents' bytes are what costs: 256 documents to 32 queries. A slab of 64 is long enough
    /// to multiply that the next one has arrived.
    pub const fn tensor(queries: usize, masked: bool) -> Shape {
        let (document_planes, query_planes, document_tiles, query_tiles) =
            if queries <= 32 { (8, 1, 2, 4) } else { (2, 4, 4, 4) };
        Shape {
            plane: 32,
            document_planes,
            query_planes,
            document_tiles,
            query_tiles,
            slab: 64,
            tensor: true,
            masked,
        }
    }

    /// A small block for devices without tensor cores, whatever their planes.
    pub const fn plain(plane: usize, masked: bool) -> Shape {
        Shape {
            plane,
            document_planes: 2,
            query_planes: 1,
            document_tiles: 1,
            query_tiles: 1,
            slab: 32,
            tensor: false,
            masked,
        }
    }

    pub const fn planes(self) -> usize {
        self.document_planes * self.query_planes
    }

    pub const fn units(self) -> usize {
        self.planes() * self.plane
    }

    /// Documents a cube scores.
    pub const fn documents(self) -> usize {
        self.document_planes * self.document_tiles * TILE_DOCUMENTS
    }

    /// Queries a cube scores.
    pub const fn queries(self) -> usize {
        self.query_planes * self.query_tiles * TILE_QUERIES
    }

    /// 16-byte vectors in a row of a slab.
    pub const fn slab_vectors(self) -> usize {
        self.slab / LANES
    }

    /// 16-byte vectors between rows in shared memory: one more than there are, so that eight rows of
    /// one column lie in different banks.
    pub const fn stride(self) -> usize {
        self.slab_vectors() + 1
    }

    /// 16-byte vectors of one slab of both operands in shared memory.
    pub const fn stage(self) -> usize {
        (self.documents() + self.queries()) * self.stride()
    }

    /// 16-byte vectors that each unit brings of a slab of so many rows. Those of documents are a multiple of
    /// the units.
    pub const fn loads(self, rows: usize) -> usize {
        (rows * self.slab_vectors()).div_ceil(self.units())
    }

    /// Whether every unit brings something of each load of queries, so that none needs asking.
    pub const fn queries_fill_units(self) -> bool {
        (self.queries() * self.slab_vectors()).is_multiple_of(self.units())
    }

    /// Pairs of scores (one document, two neighbouring queries) that a unit holds of a tile.
    pub const fn pairs(self) -> usize {
        TILE_DOCUMENTS * TILE_QUERIES / 2 / self.plane
    }

    /// Tiles of a plane.
    pub const fn tiles(self) -> usize {
        self.document_tiles * self.query_tiles
    }
}

const _: () = {
    let shapes = [
        Shape::tensor(1, true),
        Shape::tensor(1024, true),
        Shape::plain(1, true),
        Shape::plain(8, true),
        Shape::plain(32, true),
    ];
    let mut i = 0;
    while i < shapes.len() {
        let shape = shapes[i];
        assert!((shape.documents() * shape.slab_vectors()).is_multiple_of(shape.units()));
        assert!(super::resident::ROW_MULTIPLE.is_multiple_of(shape.documents()));
        assert!(shape.pairs() > 0);
        assert!(!shape.tensor || shape.query_tiles.is_multiple_of(2));
        assert!(2 * shape.stage() * 16 <= SHARED_BYTES);
        assert!(WIDTH_MULTIPLE.is_multiple_of(shape.slab));
        i += 1;
    }
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
