//! Integers that a double cannot hold.
//!
//! JSON's integers reach from `i64::MIN` to `u64::MAX`; JSONata and JSONPath compute with doubles,
//! which hold every integer up to 2^53 and only some beyond.

use std::cmp::Ordering;

/// Beyond this magnitude a double has no fraction, and every double fits 128 bits until 2^127.
const INTEGRAL: f64 = 9_007_199_254_740_992.0;

/// Whether a double cannot hold an integer.
pub(crate) fn exceeds_double(n: i128) -> bool {
    (n as f64) as i128 != n
}

/// How an integer and a double are ordered, without rounding either.
pub(crate) fn compare(n: i128, x: f64) -> Option<Ordering> {
    if x.is_nan() {
        return None;
    }
    // `as` saturates, far beyond any integer that JSON has here.
    let order = n.cmp(&(x.trunc() as i128));
    Some(match order {
        Ordering::Equal if x.abs() < INTEGRAL => 0.0_f64.partial_cmp(&x.fract())?,
        order => order,
    })
}

/// The integer as JSON; `None` beyond `i64` and `u64`.
pub(crate) fn to_json(n: i128) -> Option<serde_json::Number> {
    match (i64::try_from(n), u64::try_from(n)) {
        (Ok(n), _) => Some(n.into()),
        (_, Ok(n)) => Some(n.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_holds_all_integers_up_to_2_to_the_53rd_and_some_beyond() {
        let edge = 1_i128 << 53;
        assert!(!exceeds_double(edge) && !exceeds_double(-edge) && !exceeds_double(edge + 2));
        assert!(exceeds_double(edge + 1) && exceeds_double(-edge - 1));
        assert!(exceeds_double(u64::MAX.into()) && !exceeds_double(i64::MIN.into()));
    }

    #[test]
    fn integers_and_doubles_are_ordered_exactly() {
        let edge = 1_i128 << 53;
        assert_eq!(compare(edge + 1, edge as f64), Some(Ordering::Greater));
        assert_eq!(compare(edge, edge as f64), Some(Ordering::Equal));
        assert_eq!(compare(2, 2.5), Some(Ordering::Less));
        assert_eq!(compare(-2, -2.5), Some(Ordering::Greater));
        assert_eq!(compare(u64::MAX.into(), 1e300), Some(Ordering::Less));
        assert_eq!(compare(0, f64::NAN), None);
    }

    #[test]
    fn json_holds_what_64_bits_hold() {
        assert_eq!(to_json(u64::MAX.into()).unwrap().to_string(), "18446744073709551615");
        assert_eq!(to_json(i64::MIN.into()).unwrap().to_string(), "-9223372036854775808");
        assert_eq!(to_json(i128::from(u64::MAX) + 1), None);
    }
}
