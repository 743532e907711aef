//! Shares of a whole.
//!
//! In: `50%`, `0.5%`. Out: [`Percent`], exact to a hundredth of a percent. Invariant: never above 100 %.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SyntaxError;

/// A share from 0 % to 100 %, in hundredths of a percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u16);

/// Hundredths of a percent in one.
const UNIT: u16 = 100;

impl Percent {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(100 * UNIT);

    /// This many whole percents, at most 100.
    pub const fn new(percent: u8) -> Self {
        Self(if percent > 100 { 100 } else { percent as u16 } * UNIT)
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// Whether `part` is less than this share of `whole`; nothing of nothing is not less.
    pub const fn exceeds(self, part: u64, whole: u64) -> bool {
        (part as u128) * (Self::ALL.0 as u128) < (whole as u128) * (self.0 as u128)
    }

    /// This share of a length of time.
    pub fn of_time(self, whole: Duration) -> Duration {
        let nanos = whole.as_nanos() * u128::from(self.0) / u128::from(Self::ALL.0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether `part` is more than this share of `whole`.
    pub const fn is_exceeded(self, part: u64, whole: u64) -> bool {
        (part as u128) * (Self::ALL.0 as u128) > (whole as u128) * (self.0 as u128)
    }

    /// The share that `part` is of `whole`, rounded down; all of nothing.
    pub fn of(part: u64, whole: u64) -> Self {
        let hundredths = (u128::from(part) * u128::from(Self::ALL.0)).checked_div(u128::from(whole));
        Self(hundredths.and_then(|share| u16::try_from(share).ok()).unwrap_or(Self::ALL.0).min(Self::ALL.0))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / UNIT, self.0 % UNIT);
        match (rest, rest % 10) {
            (0, _) => f.pad(&format!("{whole}%")),
            (_, 0) => f.pad(&format!("{whole}.{}%", rest / 10)),
            _ => f.pad(&format!("{whole}.{rest:02}%")),
        }
    }
}

impl FromStr for Percent {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        read(text).ok_or_else(|| {
            SyntaxError::new(
                format!("{text:?} is no share"),
                "write it as \"50%\" or \"0.5%\", from 0% to 100%, with two decimals at most",
            )
        })
    }
}

fn read(text: &str) -> Option<Percent> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    let (whole, rest) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(rest) || rest.len() > 2 {
        return None;
    }
    let hundredths = whole.parse::<u16>().ok()?.checked_mul(UNIT)?;
    let hundredths = hundredths.checked_add(format!("{rest:0<2}").parse().ok()?)?;
    (hundredths <= Percent::ALL.0).then_some(Percent(hundredths))
}

impl TryFrom<String> for Percent {
    type Error = SyntaxError;

    fn try_from(text: String) -> Result<Self, SyntaxError> {
        text.parse()
    }
}

impl From<Percent> for String {
    fn from(share: Percent) -> Self {
        share.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        for hundredths in 0..=Percent::ALL.0 {
            let share = Percent(hundredths);
            assert_eq!(share.to_string().parse(), Ok(share));
        }
        assert_eq!("5%".parse(), Ok(Percent(500)));
        assert_eq!("0.5 %".parse(), Ok(Percent(50)));
        assert_eq!("12.25%".parse::<Percent>().unwrap().to_string(), "12.25%");
        assert_eq!("0.50%".parse::<Percent>().unwrap().to_string(), "0.5%");
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "%", "5", "101%", "100.01%", "-1%", "1.234%", "1.%", ".5%", "5%%", "99999999%", "a%"]
        {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_is_compared_without_rounding() {
        let third = Percent::new(33);
        assert!(third.exceeds(32, 100) && !third.exceeds(33, 100) && !third.exceeds(1, 3));
        assert!(!third.exceeds(0, 0) && !Percent::ZERO.exceeds(0, 1));
        assert!(Percent::ALL.exceeds(u64::MAX - 1, u64::MAX) && !Percent::ALL.exceeds(7, 7));
        assert_eq!(
            (Percent::of(1, 3), Percent::of(3, 3), Percent::of(0, 0)),
            (Percent(3333), Percent::ALL, Percent::ALL)
        );
    }
}
