//! What benchmarks and tests ask of a searcher beside its answers.

use super::batch::Ask;
use super::gather;
use super::{BATCH, Part, Searcher, check_planes, check_queries, choose};
use crate::dispatch::Kernels;
use crate::{Error, Options, Plane};

impl Searcher {
    /// The device's share of a search, until its candidates are on the host: for `benches/gpu`.
    ///
    /// # Errors
    /// As [`Searcher::search`].
    #[doc(hidden)]
    pub fn scan(
        &self,
        key: u64,
        queries: &[f32],
        dimension: usize,
        planes: &[Plane],
        layers: &[u32],
        k: usize,
    ) -> Result<(), Error> {
        check_planes(planes, dimension)?;
        let count = check_queries(queries, dimension)?;
        let part = Part {
            key,
            dimension,
            planes,
            layers,
            chosen: &choose(planes, layers)?,
            k,
            options: &Options::new(k),
        };
        let floors = vec![f64::NEG_INFINITY; count];
        // A refusal is no time at all, which a reader of times will notice.
        self.candidates_of(&part, queries, &floors, true).map(|_| ())
    }

    /// How much of the bound on their error the device's scores use: the largest `|score − f64 score| / ε`
    /// over the candidates of a search for the best `k`. Below 1, or the bound's assumptions do not hold on
    /// this device. For tests and `benches/gpu`.
    ///
    /// # Errors
    /// As [`Searcher::search`]; nothing is searched on the CPU, so a part that the device refuses gives 0.
    #[doc(hidden)]
    pub fn bound_used(
        &self,
        key: u64,
        queries: &[f32],
        dimension: usize,
        planes: &[Plane],
        layers: &[u32],
        k: usize,
    ) -> Result<f64, Error> {
        check_planes(planes, dimension)?;
        check_queries(queries, dimension)?;
        let chosen = choose(planes, layers)?;
        let mut residents = self.lock();
        let Ok((part, _)) = residents.part(&self.client, key, planes, self.ability.codes) else {
            return Ok(0.0);
        };
        let kernels = Kernels::best();
        let mut used = 0.0f64;
        for queries in queries.chunks(BATCH * dimension) {
            let ask = Ask {
                queries,
                dimension,
                k,
                floors: &vec![f64::NEG_INFINITY; queries.len() / dimension],
                layers,
                live: None,
                coded: self.ability.codes,
                refined: false,
            };
            let scores =
                gather::scores(&self.client, &self.ability, part, &ask).map_err(|error| Error::Device {
                    device: self.client.name().to_owned(),
                    reason: error.to_string(),
                })?;
            for (query, scored) in queries.chunks(dimension).zip(scores) {
                for (row, place, score) in scored.found {
                    let of = match place {
                        Some(place) => &chosen[place..place + 1],
                        None => &chosen,
                    };
                    let exact = kernels.exact_of_all(of, row as usize, query);
                    used = used.max((score - exact).abs() / scored.error);
                }
            }
        }
        Ok(used)
    }
}
