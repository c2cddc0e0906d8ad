//! What the work of a kernel costs on one core of a machine: the figures by which `count` prices statements. They are
//! measured where code runs (`chunkwise calibrate`), never here; the defaults are one machine's.

macro_rules! rates {
    ($($(#[$doc:meta])* $name:ident = $default:expr;)*) => {
        /// Nanoseconds that pieces of work take, and bytes that caches hold.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Rates {
            $($(#[$doc])* pub $name: f64,)*
        }

        impl Default for Rates {
            /// LLVM's code on an AMD EPYC of the Zen 4 generation, with AVX-512.
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Rates {
            /// The rates' names, in one order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// The rate of this name.
            pub fn get(&self, name: &str) -> Option<f64> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }

            /// Replaces the rate of this name; false if there is none or the value is no finite number of 0 or more.
            pub fn set(&mut self, name: &str, value: f64) -> bool {
                let fits = value.is_finite() && value >= 0.0;
                match name {
                    $(stringify!($name) if fits => self.$name = value,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

rates! {
    /// A statement, beside its elements.
    statement = 6.0;
    /// A row of a map or a scan: the loop over its last axis.
    row = 2.0;
    /// An element of a map: its loads and its store.
    element = 0.04;
    /// An addition or the like of a map or a reduction.
    operation = 0.02;
    /// An exponential, or a function of that price.
    exponential = 0.25;
    /// What an element costs more where the last axis strides through memory.
    strided = 0.5;
    /// A value of a reduction, beside its terms.
    reduced = 4.0;
    /// An operation of a product, in full tiles.
    product = 0.0095;
    /// An element of a product's result.
    result = 0.03;
    /// An element of a product's right factor: what it costs to bring it to the tile at hand.
    right = 0.02;
    /// An element of a tile in a sweep, beside its operations.
    swept = 0.017;
    /// An operation of a sweep.
    swept_operation = 0.0095;
    /// An operation of a triangular solve.
    solve = 0.011;
    /// A row of a triangular solve, of each system.
    solve_row = 8.0;
    /// Columns that a product computes at least, whatever it is asked for.
    vector = 16.0;
    /// A byte swept through that lies in the second cache, in the third, in memory.
    second = 0.006;
    third = 0.02;
    memory = 0.07;
    /// Bytes of the first cache, the second and a core's part of the third.
    first_bytes = 32768.0;
    second_bytes = 1048576.0;
    third_bytes = 16777216.0;
    /// Another thread to be called: when a kernel begins, and when it ends.
    call = 1000.0;
}

impl Rates {
    /// What sweeping through so many bytes costs beside the work on them, when they were swept through before. They lie
    /// in as many as `span`, from the first of them to the last: what is left out of each row takes its place in a cache
    /// all the same.
    pub fn sweep(&self, bytes: f64, span: f64) -> f64 {
        let levels = [(self.first_bytes, 0.0), (self.second_bytes, self.second), (self.third_bytes, self.third)];
        let byte = levels.into_iter().find(|(size, _)| span <= *size).map_or(self.memory, |(_, byte)| byte);
        bytes * byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_set_by_name_and_nonsense_is_refused() {
        let mut rates = Rates::default();
        for name in Rates::NAMES {
            assert!(rates.set(name, 3.0) && rates.get(name) == Some(3.0));
            assert!(!rates.set(name, f64::NAN) && !rates.set(name, -1.0));
        }
        assert!(!rates.set("speed", 1.0) && rates.get("speed").is_none());
    }

    #[test]
    fn what_lies_further_away_costs_more_a_byte() {
        let rates = Rates::default();
        let byte = |span: f64| rates.sweep(1e3, span) / 1e3;
        let costs = [1e4, 1e5, 4e6, 1e9].map(byte);
        assert!(costs.is_sorted() && costs[0] == 0.0 && costs[3] > costs[1]);
    }
}
