//! Numbers in English words.

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// `number` below 10,000 in words.
pub(crate) fn words(number: u32) -> String {
    let with_rest = |head: String, rest: u32, joint: &str| match rest {
        0 => head,
        rest => format!("{head}{joint}{}", words(rest)),
    };
    match number {
        0..20 => SMALL[number as usize].to_owned(),
        20..100 => with_rest(TENS[number as usize / 10].to_owned(), number % 10, "-"),
        100..1000 => {
            with_rest(format!("{} hundred", SMALL[number as usize / 100]), number % 100, " ")
        }
        _ => with_rest(format!("{} thousand", words(number / 1000)), number % 1000, " "),
    }
}
