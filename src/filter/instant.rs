//! Points in time, read from RFC 3339 texts.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of [`Instant::key`].
pub(crate) const KEY_BYTES: usize = 12;

const DAY: i64 = 86_400;

/// A point in time to the nanosecond, whatever offset it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instant {
    /// Seconds since 1970-01-01T00:00Z.
    seconds: i64,
    nanoseconds: u32,
}

impl Instant {
    /// Reads `2024-01-31T23:59:07.25+01:00`. Seconds may be left out; the offset, `Z` or `±hh:mm`, may not: a time
    /// without one is no point in time. Digits past the nanosecond are cut off.
    pub fn parse(text: &str) -> Option<Instant> {
        let mut rest = Rest(text.as_bytes());
        let (year, month, day) = (rest.number(4)?, rest.after(b"-")?, rest.after(b"-")?);
        rest.one_of(b"Tt ")?;
        let (hour, minute) = (rest.number(2)?, rest.after(b":")?);
        let second = if rest.one_of(b":").is_some() {
            rest.number(2)?
        } else {
            0
        };
        let nanoseconds = if rest.one_of(b".").is_some() {
            rest.fraction()?
        } else {
            0
        };
        let offset = match rest.one_of(b"Zz+-")? {
            b'Z' | b'z' => 0,
            sign => {
                let (hours, minutes) = (rest.number(2)?, rest.after(b":")?);
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let size = hours * 3600 + minutes * 60;
                if sign == b'-' { -size } else { size }
            }
        };
        let fits = rest.0.is_empty()
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day)
            && hour <= 23
            && minute <= 59
            && second <= 60;
        if !fits {
            return None;
        }
        let minute_of = days_since_1970(year, month, day) * DAY + hour * 3600 + minute * 60 - offset;
        // A leap second is the last of a month in UTC, and falls together with the second after it.
        if second == 60 && !begins_a_month(minute_of + 60) {
            return None;
        }
        Some(Instant {
            seconds: minute_of + second,
            nanoseconds,
        })
    }

    /// Twelve bytes that compare as the instants do.
    pub fn key(&self) -> [u8; KEY_BYTES] {
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&(self.seconds as u64 ^ 1 << 63).to_be_bytes());
        key[8..].copy_from_slice(&self.nanoseconds.to_be_bytes());
        key
    }

    /// `None` for times that RFC 3339 cannot write: before the year 0 or after 9999.
    pub fn from_system(time: SystemTime) -> Option<Instant> {
        let instant = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Instant {
                seconds: i64::try_from(since.as_secs()).ok()?,
                nanoseconds: since.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                let whole = i64::try_from(before.as_secs()).ok()?.checked_neg()?;
                match before.subsec_nanos() {
                    0 => Instant {
                        seconds: whole,
                        nanoseconds: 0,
                    },
                    nanoseconds => Instant {
                        seconds: whole.checked_sub(1)?,
                        nanoseconds: 1_000_000_000 - nanoseconds,
                    },
                }
            }
        };
        let years = days_since_1970(0, 1, 1) * DAY..days_since_1970(10_000, 1, 1) * DAY;
        years.contains(&instant.seconds).then_some(instant)
    }
}

/// In UTC, in a form that [`Instant::parse`] reads as the same instant.
impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A zoned time near an end of the calendar may be outside of it in UTC; an offset brings it back.
        let (first, last) = (
            days_since_1970(0, 1, 1) * DAY,
            days_since_1970(10_000, 1, 1) * DAY,
        );
        let (shift, offset) = if self.seconds < first {
            (DAY - 60, "+23:59")
        } else if self.seconds >= last {
            (60 - DAY, "-23:59")
        } else {
            (0, "Z")
        };
        let seconds = self.seconds + shift;
        let (year, month, day) = date_of(seconds.div_euclid(DAY));
        let of_day = seconds.rem_euclid(DAY);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        if self.nanoseconds > 0 {
            write!(f, ".{}", format!("{:09}", self.nanoseconds).trim_end_matches('0'))?;
        }
        f.write_str(offset)
    }
}

/// What is left to read of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(digits)?;
        let mut value = 0;
        for digit in head {
            value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        self.0 = tail;
        Some(value)
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (&first, tail) = self.0.split_first()?;
        bytes.contains(&first).then(|| {
            self.0 = tail;
            first
        })
    }

    /// Two digits behind a separator.
    fn after(&mut self, separator: &[u8]) -> Option<i64> {
        self.one_of(separator)?;
        self.number(2)
    }

    fn fraction(&mut self) -> Option<u32> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (fraction, tail) = self.0.split_at(digits);
        self.0 = tail;
        let nine = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
        (digits > 0).then(|| nine.fold(0, |value, digit| value * 10 + u32::from(digit - b'0')))
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that a leap day is the
/// last of its year and the days before a month follow from a line of slope 30.6.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 306 + 5) / 10 + day - 1 - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    // From the mean length of a year, which is off by one at most.
    let mut year = 1970 + (days * 400).div_euclid(146_097);
    while days_since_1970(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 12;
    while days_since_1970(year, month, 1) > days {
        month -= 1;
    }
    (year, month, days - days_since_1970(year, month, 1) + 1)
}

fn begins_a_month(seconds: i64) -> bool {
    seconds.rem_euclid(DAY) == 0 && date_of(seconds.div_euclid(DAY)).2 == 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Instant {
        Instant::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    // B48
    #[test]
    fn instants_are_one_whatever_their_offset() {
        assert_eq!(read("2024-01-01T00:30+01:00"), read("2023-12-31T23:30Z"));
        assert_eq!(read("2024-01-01 00:30:00.000-00:00"), read("2024-01-01t00:30z"));
        assert!(read("2024-01-01T00:00:00.1Z") < read("2024-01-01T00:00:00.11Z"));
        assert_eq!(read("1970-01-01T00:00:00Z").seconds, 0);
        assert_eq!(read("2000-02-29T12:00:00Z").seconds, 951_825_600);
        assert_eq!(read("1969-12-31T23:59:59Z").seconds, -1);
        assert_eq!(read("2016-12-31T23:59:60Z"), read("2017-01-01T00:00:00Z"));
        assert_eq!(read("2017-01-01T00:59:60+01:00"), read("2017-01-01T00:00:00Z"));
        assert_eq!(
            read("0000-01-01T00:00+23:59").to_string(),
            "0000-01-01T00:00:00+23:59"
        );
        assert_eq!(
            read("9999-12-31T23:59:59.5-23:59").to_string(),
            "9999-12-31T23:59:59.5-23:59"
        );
    }

    #[test]
    fn what_is_no_instant_is_none() {
        for text in [
            "",
            "2024",
            "2024-01-01",
            "2024-01-01T00:00",
            "2024-01-01T00:00:00",
            "2024-13-01T00:00Z",
            "2024-00-01T00:00Z",
            "2023-02-29T00:00Z",
            "1900-02-29T00:00Z",
            "2024-01-32T00:00Z",
            "2024-01-01T24:00Z",
            "2024-01-01T00:60Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00+24:00",
            "2024-01-01T00:00+0100",
            "2024-01-01T00:00Z ",
            " 2024-01-01T00:00Z",
            "+024-01-01T00:00Z",
            "2024-1-01T00:00Z",
            "２024-01-01T00:00Z",
            "2024-01-01T00:00 UTC",
        ] {
            assert_eq!(Instant::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn instants_are_read_back_as_they_are_written(
            seconds in -62_167_219_200i64 - 86_000..253_402_300_800 + 86_000,
            nanoseconds in prop_oneof![Just(0), 0u32..1_000_000_000],
            other in -62_167_219_200i64..253_402_300_800,
        ) {
            let instant = Instant { seconds, nanoseconds };
            prop_assert_eq!(Instant::parse(&instant.to_string()), Some(instant));
            let other = Instant { seconds: other, nanoseconds: 5 };
            prop_assert_eq!(instant.cmp(&other), instant.key().cmp(&other.key()));
        }
    }
}
