//! Graphs: the same on every processor and number of threads, and unharmed by damaged bytes.

use stratal_kernels::{
    BuiltGraph, Counters, Error, Graph, GraphOptions, GraphSearch, GraphSection, GraphSections, Instructions,
    Options, Plane, Walk, max_inner_product,
};

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn vectors(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                let sum: f32 = (0..4)
                    .map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32)
                    .sum();
                sum - 2.0
            })
            .collect()
    }
}

/// The sections in memory that is aligned as a file's pages are.
struct Bytes(Vec<Vec<[u64; 8]>>, Vec<usize>);

impl Bytes {
    fn of(sections: &[Vec<u8>]) -> Bytes {
        let aligned = |bytes: &Vec<u8>| {
            let mut lines = vec![[0u64; 8]; bytes.len().div_ceil(64) + 1];
            // Room for the first multiple of 64 in it.
            let at = aligned_at(&lines);
            let all: &mut [u8] = bytemuck::cast_slice_mut(&mut lines);
            all[at..at + bytes.len()].copy_from_slice(bytes);
            lines
        };
        let lines = sections.iter().map(aligned).collect();
        Bytes(lines, sections.iter().map(Vec::len).collect())
    }

    fn sections(&self) -> GraphSections<'_> {
        std::array::from_fn(|number| {
            let lines = &self.0[number];
            let at = aligned_at(lines);
            &bytemuck::cast_slice::<_, u8>(lines)[at..at + self.1[number]]
        })
    }

    fn opened(&self) -> (GraphSections<'_>, Graph) {
        let sections = self.sections();
        let graph = Graph::open(&sections).unwrap();
        (sections, graph)
    }
}

fn aligned_at(lines: &[[u64; 8]]) -> usize {
    (lines.as_ptr() as usize).next_multiple_of(64) - lines.as_ptr() as usize
}

fn built(planes: &[Plane], options: &GraphOptions) -> Vec<Vec<u8>> {
    let built = BuiltGraph::build(planes, options).unwrap();
    GraphSection::ALL
        .into_iter()
        .map(|section| built.section(section))
        .collect()
}

fn normalised(mut values: Vec<f32>, dimension: usize) -> Vec<f32> {
    for vector in values.chunks_exact_mut(dimension) {
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
    }
    values
}

fn planes_of(layers: &[Vec<f32>], dimension: usize) -> Vec<Plane<'_>> {
    layers
        .iter()
        .map(|values| Plane::from_f32(values, dimension).unwrap())
        .collect()
}

fn paths() -> impl Iterator<Item = Instructions> {
    Instructions::ALL.into_iter().filter(|path| path.is_available())
}

#[test]
fn threads_and_instructions_change_nothing() {
    for (dimension, rows) in [
        (1, 40),
        (20, 900),
        (130, 700),
        (300, 500),
        (600, 400),
        (1100, 300),
    ] {
        let values = Numbers(1).vectors(2 * rows * dimension);
        let (a, b) = values.split_at(rows * dimension);
        let planes = [
            Plane::from_f32(a, dimension).unwrap(),
            Plane::from_f32(b, dimension).unwrap(),
        ];
        let first = built(&planes, &GraphOptions::new());
        for path in paths() {
            let other = GraphOptions::new().instructions(path);
            assert!(first == built(&planes, &other), "{path:?}, dimension {dimension}");
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert!(first == pool.install(|| built(&planes, &GraphOptions::new())));
        let bytes = Bytes::of(&first);
        let (sections, graph) = bytes.opened();
        assert_eq!(
            (graph.documents(), graph.layers(), graph.dimension()),
            (rows, 2, dimension)
        );
        let mut walk = Walk::new();
        for query in Numbers(2).vectors(30 * dimension).chunks_exact(dimension) {
            let search = GraphSearch::new(5, 30);
            let found = graph
                .search(&sections, &planes, query, &search, &mut walk)
                .unwrap();
            for path in paths() {
                let other = search.instructions(path);
                let again = graph.search(&sections, &planes, query, &other, &mut walk);
                assert_eq!(found, again.unwrap(), "{path:?}");
            }
        }
        let queries = Numbers(3).vectors(21 * dimension);
        let floors: Vec<f64> = (0..21).map(|at| f64::from(at % 3 - 1) * 0.5).collect();
        let search = GraphSearch::new(5, 30);
        let together = search.floors(&floors);
        let together = graph
            .search_batch(&sections, &planes, &queries, &together, &mut walk)
            .unwrap();
        for ((query, &floor), answer) in queries.chunks_exact(dimension).zip(&floors).zip(together) {
            let alone = search.floor(floor);
            let alone = graph.search(&sections, &planes, query, &alone, &mut walk);
            assert_eq!(
                answer.candidates,
                alone.unwrap(),
                "a batch is so many single searches"
            );
        }
        let few = search.floors(&floors[1..]);
        let refused = graph.search_batch(&sections, &planes, &queries, &few, &mut walk);
        assert!(matches!(
            refused,
            Err(Error::FloorCount {
                expected: 21,
                got: 20
            })
        ));
    }
}

#[test]
fn a_walk_as_wide_as_the_graph_comes_to_every_row() {
    let (dimension, rows) = (12, 600);
    let mut values = Numbers(3).vectors(rows * dimension);
    // Norms of many sizes, a zero, and rows that are equal.
    for (row, vector) in values.chunks_exact_mut(dimension).enumerate() {
        let scale = 1.3f32.powi((row % 40) as i32 - 20);
        vector.iter_mut().for_each(|value| *value *= scale);
    }
    values[..dimension].fill(0.0);
    for copy in 300..340 {
        values.copy_within(100 * dimension..101 * dimension, copy * dimension);
    }
    let planes = [Plane::from_f32(&values, dimension).unwrap()];
    let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    assert_eq!(graph.documents(), rows - 40);
    let live: Vec<u64> = (0..rows.div_ceil(64))
        .map(|word| if word == 1 { 0 } else { u64::MAX })
        .collect();
    let mut walk = Walk::new();
    for query in Numbers(4).vectors(10 * dimension).chunks_exact(dimension) {
        let truth = max_inner_product(query, dimension, &planes, &Options::new(rows)).unwrap();
        let found = graph
            .search(
                &sections,
                &planes,
                query,
                &GraphSearch::new(rows, rows),
                &mut walk,
            )
            .unwrap();
        assert_eq!(found, truth[0]);
        let truth = max_inner_product(query, dimension, &planes, &Options::new(50).live(&live)).unwrap();
        let search = GraphSearch::new(50, rows).live(&live, rows - 64);
        let found = graph
            .search(&sections, &planes, query, &search, &mut walk)
            .unwrap();
        assert!(found.iter().all(|found| !(64..128).contains(&found.row)));
        let met = truth[0].iter().filter(|wanted| found.contains(wanted)).count();
        assert!(met >= 49, "{met}");
    }
}

#[test]
fn a_walk_ends_where_nothing_else_is_near_and_is_never_narrower_than_k() {
    let (dimension, clusters, each) = (32, 100, 20);
    let centres = Numbers(7).vectors(clusters * dimension);
    let mut values = Numbers(8).vectors(clusters * each * dimension);
    for (row, vector) in values.chunks_exact_mut(dimension).enumerate() {
        let centre = &centres[row / each * dimension..][..dimension];
        for (value, centre) in vector.iter_mut().zip(centre) {
            *value = centre + 0.01 * *value;
        }
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
    }
    let planes = [Plane::from_f32(&values, dimension).unwrap()];
    let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    let mut walk = Walk::new();
    let mut ask = |k: usize, width: usize, query: &[f32]| {
        let counters = Counters::default();
        let search = GraphSearch::new(k, width).counters(&counters);
        let found = graph.search(&sections, &planes, query, &search, &mut walk);
        (found.unwrap(), counters.swept())
    };
    for query in values.chunks_exact(dimension).step_by(157) {
        let (all, every) = ask(10, clusters * each, query);
        let (found, compared) = ask(10, 600, query);
        assert_eq!(every, (clusters * each) as u64);
        assert_eq!(found, all, "its own cluster is all that is near");
        assert!(compared < every / 2, "{compared} of {every}");
        assert_eq!(ask(60, 1, query), ask(60, 60, query));
    }
}

#[test]
fn documents_of_several_vectors_are_found_by_the_best_and_once() {
    let (dimension, rows, layers) = (24, 1500, 3);
    // Layers that say the same, that say about the same, and that have nothing in common.
    for apart in [0.0, 0.1, 3.0] {
        let base = Numbers(11).vectors(rows * dimension);
        let values: Vec<Vec<f32>> = (0..layers)
            .map(|layer| {
                let noise = Numbers(20 + layer).vectors(rows * dimension);
                let values: Vec<f32> = base.iter().zip(noise).map(|(b, n)| b + apart * n).collect();
                normalised(values, dimension)
            })
            .collect();
        let planes = planes_of(&values, dimension);
        let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
        let (sections, graph) = bytes.opened();
        assert_eq!((graph.documents(), graph.layers()), (rows, 3));
        let mut walk = Walk::new();
        let mut ask = |query: &[f32], k: usize, width: usize| {
            let search = GraphSearch::new(k, width);
            let found = graph.search(&sections, &planes, query, &search, &mut walk);
            found.unwrap()
        };
        let queries = Numbers(12).vectors(40 * dimension);
        let mut met = 0;
        for query in queries.chunks_exact(dimension) {
            let truth = max_inner_product(query, dimension, &planes, &Options::new(rows)).unwrap();
            assert_eq!(ask(query, rows, rows), truth[0]);
            let found = ask(query, 10, 30);
            assert_eq!(found.len(), 10, "ten documents, whatever they have in common");
            let mut once: Vec<u32> = found.iter().map(|found| found.row).collect();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), 10);
            met += found
                .iter()
                .filter(|found| truth[0][..10].contains(found))
                .count();
        }
        assert!(met >= 360, "{met} of 400 with layers {apart} apart");
    }
    let plane = [Plane::from_f32(&[1.0; 24], dimension).unwrap()];
    let bytes = Bytes::of(&built(&plane, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    let two = [plane[0], plane[0]];
    let search = GraphSearch::new(1, 1);
    let refused = graph.search(&sections, &two, &[1.0; 24], &search, &mut Walk::new());
    assert!(
        matches!(refused, Err(Error::GraphSection { .. })),
        "planes that it was not built over"
    );
}

/// Vectors of a document that are nearly the same, and some that codes can hardly tell.
#[test]
fn scores_are_of_the_best_vector_whatever_codes_tell() {
    let (dimension, rows, layers) = (72, 1200, 3);
    let mut numbers = Numbers(50);
    let common = numbers.vectors(rows * dimension);
    let values: Vec<Vec<f32>> = (0..layers)
        .map(|_| {
            let mut values: Vec<f32> = numbers
                .vectors(rows * dimension)
                .iter()
                .zip(&common)
                .map(|(own, common)| common + 0.02 * own)
                .collect();
            // Far outside of what the steps of a component reach.
            for vector in values.chunks_exact_mut(dimension).step_by(17) {
                vector[numbers.next() as usize % dimension] += 40.0;
            }
            normalised(values, dimension)
        })
        .collect();
    let planes = planes_of(&values, dimension);
    let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    let mut walk = Walk::new();
    // Also questions that lie where the outliers do.
    let mut queries = numbers.vectors(20 * dimension);
    queries.extend_from_slice(&values[1][17 * dimension..][..20 * 17 * dimension]);
    for query in queries.chunks_exact(dimension).step_by(5) {
        let truth = max_inner_product(query, dimension, &planes, &Options::new(rows)).unwrap();
        for instructions in paths() {
            for (k, width) in [(10, 10), (10, 30), (rows, rows)] {
                let search = GraphSearch::new(k, width).instructions(instructions);
                let found = graph
                    .search(&sections, &planes, query, &search, &mut walk)
                    .unwrap();
                assert!(found.iter().all(|found| truth[0].contains(found)));
                if k == rows {
                    assert_eq!(found, truth[0]);
                }
            }
        }
    }
}

/// Vectors of a document between which heads, which leave over much of so many components, cannot decide.
#[test]
fn a_document_is_found_by_a_vector_whose_head_promises_less() {
    let (dimension, rows, layers) = (320, 2000, 3);
    let mut numbers = Numbers(60);
    let common = numbers.vectors(rows * dimension);
    let values: Vec<Vec<f32>> = (0..layers)
        .map(|_| {
            let own = numbers.vectors(rows * dimension);
            let values: Vec<f32> = own
                .iter()
                .zip(&common)
                .map(|(own, common)| common + 0.7 * own)
                .collect();
            normalised(values, dimension)
        })
        .collect();
    let planes = planes_of(&values, dimension);
    let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    let mut walk = Walk::new();
    let mut met = 0;
    for query in numbers.vectors(100 * dimension).chunks_exact(dimension) {
        let truth = max_inner_product(query, dimension, &planes, &Options::new(10)).unwrap();
        let search = GraphSearch::new(10, 300);
        let found = graph
            .search(&sections, &planes, query, &search, &mut walk)
            .unwrap();
        met += found.iter().filter(|found| truth[0].contains(found)).count();
    }
    // 955 by the vectors that heads prefer.
    assert!(met >= 970, "{met} of 1000");
}

/// Vectors of each layer about a direction of its own, so that hardly an edge leads from one to another.
#[test]
fn layers_that_lie_apart_are_searched_each() {
    let (dimension, rows, layers) = (24, 3000, 3);
    let values: Vec<Vec<f32>> = (0..layers)
        .map(|layer| {
            let mut values = Numbers(30 + layer as u64).vectors(rows * dimension);
            let own = values.iter_mut().skip(layer).step_by(dimension);
            own.for_each(|value| *value += 8.0);
            normalised(values, dimension)
        })
        .collect();
    let planes = planes_of(&values, dimension);
    let bytes = Bytes::of(&built(&planes, &GraphOptions::new()));
    let (sections, graph) = bytes.opened();
    let mut walk = Walk::new();
    let mut met = 0;
    for query in Numbers(33).vectors(40 * dimension).chunks_exact(dimension) {
        // As near to each of the directions as to the others.
        let mut query = query.to_vec();
        query[..layers].fill(0.5);
        let truth = max_inner_product(&query, dimension, &planes, &Options::new(rows)).unwrap();
        let mut ask = |k: usize, width: usize| {
            let search = GraphSearch::new(k, width);
            graph
                .search(&sections, &planes, &query, &search, &mut walk)
                .unwrap()
        };
        assert_eq!(ask(rows, rows), truth[0]);
        let found = ask(10, 60);
        met += found
            .iter()
            .filter(|found| truth[0][..10].contains(found))
            .count();
    }
    assert!(met >= 360, "{met} of 400");
}

/// All of them are looked at for each layer, so there must not be more than that takes.
#[test]
fn layers_that_lie_apart_have_few_entries() {
    let (dimension, rows) = (16, 8400);
    let layers = [0, 1].map(|layer| {
        let mut values = Numbers(40 + layer as u64).vectors(rows * dimension);
        let own = values.iter_mut().skip(layer).step_by(dimension);
        own.for_each(|value| *value += 8.0);
        normalised(values, dimension)
    });
    let planes = planes_of(&layers, dimension);
    let entries = |planes: &[Plane]| {
        let head = &built(planes, &GraphOptions::new().passes(0))[0];
        assert_eq!(head.len(), 24 + 16);
        u32::from_le_bytes([head[32], head[33], head[34], head[35]])
    };
    assert!((512..600).contains(&entries(&planes)));
    // A sixteenth of the vectors, and those that nothing leads to.
    assert!(entries(&planes[..1]) >= 525);
    assert!(entries(&[planes[0], planes[0]]) >= 1050);
}

/// With so many that they are put into groups, which a graph of this size has not by itself.
#[test]
fn walks_begin_among_many_entries_alike_on_every_processor() {
    let (dimension, rows) = (24, 1500);
    let layers = [21, 22].map(|seed| normalised(Numbers(seed).vectors(rows * dimension), dimension));
    let planes = planes_of(&layers, dimension);
    let mut sound = built(&planes, &GraphOptions::new());
    // All nodes of the only shell are entries.
    assert_eq!(sound[0].len(), 24 + 16);
    sound[0][32..36].copy_from_slice(&(2 * rows as u32).to_le_bytes());
    let bytes = Bytes::of(&sound);
    let (sections, graph) = bytes.opened();
    let mut walk = Walk::new();
    let queries = Numbers(23).vectors(40 * dimension);
    let mut hits = 0;
    for query in queries.chunks_exact(dimension) {
        let search = GraphSearch::new(5, 150);
        let found = graph
            .search(&sections, &planes, query, &search, &mut walk)
            .unwrap();
        assert_eq!(found.len(), 5);
        for path in paths() {
            let other = search.instructions(path);
            let again = graph.search(&sections, &planes, query, &other, &mut walk);
            assert_eq!(found, again.unwrap(), "{path:?}");
        }
        let best = max_inner_product(query, dimension, &planes, &Options::new(5)).unwrap();
        hits += best[0].iter().filter(|&best| found.contains(best)).count();
    }
    assert!(hits >= 180, "{hits} of 200");
    let mut numbers = Numbers(24);
    for _ in 0..60 {
        let mut bad = sound.clone();
        let heads = GraphSection::First as usize;
        let at = numbers.next() as usize % bad[heads].len();
        let byte = numbers.next() as u8;
        bad[heads][at / 2..at].fill(byte);
        let bytes = Bytes::of(&bad);
        let (sections, graph) = bytes.opened();
        let found = graph.search(
            &sections,
            &planes,
            &queries[..dimension],
            &GraphSearch::new(5, 40),
            &mut walk,
        );
        assert_eq!(found.unwrap().len(), 5);
    }
}

#[test]
fn damaged_bytes_are_refused_or_harmless() {
    harms_nothing(40, 700, 1200);
    // Heads of two lines, which do not suffice.
    harms_nothing(600, 300, 400);
}

fn harms_nothing(dimension: usize, rows: usize, rounds: usize) {
    let mut values = Numbers(5).vectors(rows * dimension);
    values.copy_within(0..dimension, 9 * dimension);
    let planes = [Plane::from_f32(&values, dimension).unwrap()];
    let one = built(&planes, &GraphOptions::new());
    let other = Numbers(7).vectors(rows * dimension);
    let both = [planes[0], Plane::from_f32(&other, dimension).unwrap()];
    let two = built(&both, &GraphOptions::new());
    let mut numbers = Numbers(6);
    let mut walk = Walk::new();
    for round in 0..rounds {
        let (sound, planes) = if round % 2 == 0 {
            (&one, &both[..1])
        } else {
            (&two, &both[..])
        };
        let mut bad = sound.clone();
        let section = round / 2 % sound.len();
        match numbers.next() % 4 {
            0 => {
                let length = numbers.next() as usize % (bad[section].len() + 1);
                bad[section].truncate(length);
            }
            1 => bad[section].extend([7; 64]),
            _ => {
                for _ in 0..1 + numbers.next() % 20 {
                    let length = bad[section].len().max(1);
                    if let Some(byte) = bad[section].get_mut(numbers.next() as usize % length) {
                        *byte = numbers.next() as u8;
                    }
                }
            }
        }
        let bytes = Bytes::of(&bad);
        let sections = bytes.sections();
        match Graph::open(&sections) {
            Err(Error::GraphSection { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok(graph) => {
                let live = vec![u64::MAX; rows.div_ceil(64)];
                let query = &values[dimension..2 * dimension];
                for search in [GraphSearch::new(3, 20), GraphSearch::new(3, 20).live(&live, rows)] {
                    if let Ok(found) = graph.search(&sections, planes, query, &search, &mut walk) {
                        assert!(found.iter().all(|found| (found.row as usize) < rows));
                    }
                }
            }
        }
    }
}
