//! Numbers as JSON has them, compared by the value they stand for and to the last digit.

use std::cmp::Ordering;

/// 2^63 and 2^64, exact in f64.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// A finite number. 3 and 3.0 are one number, 2^53 and 2^53 + 1 are two, and so are 0.0 and the smallest above it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// A whole number from -2^63 to 2^64 - 1.
    Whole(i128),
    /// Any other finite number: a fraction, or a whole number out of that range.
    Real(f64),
}

/// Bytes of [`Number::key`].
pub(crate) const KEY_BYTES: usize = 10;

impl Number {
    /// `None` for NaN and infinities.
    pub fn from_f64(value: f64) -> Option<Number> {
        if !value.is_finite() {
            return None;
        }
        let is_whole = value.trunc() == value && (-TWO_63..TWO_64).contains(&value);
        Some(if is_whole {
            Number::Whole(value as i128)
        } else {
            Number::Real(value)
        })
    }

    pub fn from_json(number: &serde_json::Number) -> Option<Number> {
        if let Some(value) = number.as_i64() {
            return Some(Number::Whole(value.into()));
        }
        if let Some(value) = number.as_u64() {
            return Some(Number::Whole(value.into()));
        }
        number.as_f64().and_then(Number::from_f64)
    }

    /// Ten bytes that compare as the numbers do, and are equal when they are.
    ///
    /// A number is `± mantissa · 2^(exponent - 63)` with the highest bit of its 64-bit mantissa set. The first two
    /// bytes are `0x8000 | exponent + 0x2000`, big-endian, the other eight the mantissa; zero is `0x8000` and
    /// zeros; of a negative number all bits are turned round.
    pub fn key(&self) -> [u8; KEY_BYTES] {
        let (negative, mantissa, scale) = match *self {
            // At most 2^64 - 1 in size, so nothing is cut off.
            Number::Whole(value) => (value < 0, value.unsigned_abs() as u64, 0i32),
            Number::Real(value) => {
                let bits = value.to_bits();
                let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i32);
                match exponent {
                    0 => (value < 0.0, fraction, -1074),
                    _ => (value < 0.0, fraction | 1 << 52, exponent - 1075),
                }
            }
        };
        let mut key = [0; KEY_BYTES];
        let mut head = 0x8000u16;
        if mantissa != 0 {
            let zeros = mantissa.leading_zeros();
            head |= (scale + 63 - zeros as i32 + 0x2000) as u16;
            key[2..].copy_from_slice(&(mantissa << zeros).to_be_bytes());
        }
        key[..2].copy_from_slice(&head.to_be_bytes());
        if negative {
            key.iter_mut().for_each(|byte| *byte = !*byte);
        }
        key
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Number) -> Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(b),
            // Neither is NaN.
            (Number::Real(a), Number::Real(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Number::Whole(a), Number::Real(b)) => whole_and_real(*a, *b),
            (Number::Real(a), Number::Whole(b)) => whole_and_real(*b, *a).reverse(),
        }
    }
}

/// A real in the range of whole numbers is none of them, so it lies between its floor and the next.
fn whole_and_real(whole: i128, real: f64) -> Ordering {
    if real >= TWO_64 {
        Ordering::Less
    } else if real < -TWO_63 {
        Ordering::Greater
    } else if whole <= real.floor() as i128 {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Number) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Whole(value) => write!(f, "{value}"),
            // The shortest digits that are read back as the same number.
            Number::Real(value) => write!(f, "{value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_number() -> impl Strategy<Value = Number> {
        let near = prop::sample::select(vec![
            0.0,
            1.0,
            -1.0,
            9_007_199_254_740_992.0,
            TWO_63,
            TWO_64,
            -TWO_63,
        ]);
        prop_oneof![
            any::<i64>().prop_map(|value| Number::Whole(value.into())),
            any::<u64>().prop_map(|value| Number::Whole(value.into())),
            (-3i128..4).prop_map(Number::Whole),
            (near, -3i64..4).prop_filter_map("finite", |(base, steps)| {
                Number::from_f64(f64::from_bits((base.to_bits() as i64 + steps) as u64))
            }),
            prop::num::f64::ANY.prop_filter_map("finite", Number::from_f64),
        ]
    }

    proptest! {
        #[test]
        fn keys_compare_as_the_numbers_do(a in any_number(), b in any_number()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b), a.key().cmp(&b.key()));
            prop_assert_eq!(a.key(), a.key());
        }
    }

    #[test]
    fn numbers_are_compared_to_the_last_digit() {
        let json = |text: &str| Number::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(json("3"), json("3.0"));
        assert_eq!(json("-0.0"), json("0"));
        let ascending = [
            "-1e300",
            "-9223372036854775809",
            "-9223372036854775808",
            "-1.5",
            "-1",
            "-5e-324",
            "0",
            "5e-324",
            "0.1",
            "1",
            "9007199254740992",
            "9007199254740993",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e300",
        ];
        for pair in ascending.windows(2) {
            // -2^63 - 1 has no f64 of its own and is -2^63 as JSON is read.
            let equal = pair[0] == "-9223372036854775809";
            let order = if equal { Ordering::Equal } else { Ordering::Less };
            assert_eq!(json(pair[0]).cmp(&json(pair[1])), order, "{pair:?}");
            assert_eq!(json(pair[0]).key().cmp(&json(pair[1]).key()), order, "{pair:?}");
        }
    }
}
