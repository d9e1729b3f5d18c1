use super::*;

#[test]
fn keys_are_32_hexadecimal_digits() {
    let key = WaitKey::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]);
    let text = "000102030405060708090a0b0c0d0eff";
    assert_eq!(key.to_string(), text);
    assert_eq!(text.parse(), Ok(key));
    assert_eq!(serde_json::to_value(key).unwrap(), text);
    assert_eq!(serde_json::from_value::<WaitKey>(text.into()).unwrap(), key);
    for wrong in [
        "",
        "0",
        &text[1..],
        &text.to_uppercase(),
        &format!("+{}", &text[1..]),
        &format!("{text}0"),
    ] {
        assert_eq!(wrong.parse::<WaitKey>(), Err(thredlib::NotAKey), "{wrong}");
    }
}
