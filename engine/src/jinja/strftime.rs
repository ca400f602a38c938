//! Dates as text: C's `strftime` at midnight of a day, in English and without a time zone.

use super::failure::{TemplateFailure, failure};

/// A day of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CalendarDate {
    year: i64,
    /// From 1.
    month: usize,
    /// From 1.
    day: i64,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl CalendarDate {
    /// A date written as `2024-07-26`; none for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return None };
        let is_number =
            |text: &str, n: usize| text.len() == n && text.chars().all(|c| c.is_ascii_digit());
        if !(is_number(year, 4) && is_number(month, 2) && is_number(day, 2)) {
            return None;
        }
        let date =
            Self { year: year.parse().ok()?, month: month.parse().ok()?, day: day.parse().ok()? };
        let is_valid = (1..=12).contains(&date.month)
            && date.year > 0
            && (1..=days_of_month(date.year, date.month)).contains(&date.day);
        is_valid.then_some(date)
    }

    /// Day of the year from 0.
    fn day_of_year(self) -> i64 {
        (1..self.month).map(|month| days_of_month(self.year, month)).sum::<i64>() + self.day - 1
    }

    /// Day of the week from Sunday.
    fn weekday(self) -> i64 {
        let years = self.year - 1;
        (years * 365 + years / 4 - years / 100 + years / 400 + self.day_of_year() + 1) % 7
    }

    /// Year and week of ISO 8601.
    fn iso_week(self) -> (i64, i64) {
        let weekday = (self.weekday() + 6) % 7;
        let week = (self.day_of_year() - weekday + 10) / 7;
        let n_weeks = |year: i64| {
            let first = Self { year, month: 1, day: 1 }.weekday();
            if first == 4 || first == 3 && is_leap(year) { 53 } else { 52 }
        };
        match week {
            0 => (self.year - 1, n_weeks(self.year - 1)),
            week if week > n_weeks(self.year) => (self.year + 1, 1),
            week => (self.year, week),
        }
    }

    /// The date in a format.
    ///
    /// # Errors
    /// A format with an unknown letter.
    pub(super) fn format(self, format: &str) -> Result<String, TemplateFailure> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut letter = chars.next();
            let flag = letter.filter(|c| "-_0^#".contains(*c));
            if flag.is_some() {
                letter = chars.next();
            }
            let Some(letter) = letter else { return failure("strftime_now: % without a letter") };
            out.push_str(&self.part(letter, flag)?);
        }
        Ok(out)
    }

    fn part(self, letter: char, flag: Option<char>) -> Result<String, TemplateFailure> {
        let number = |value: i64, width: usize, fill: char| match flag.unwrap_or(fill) {
            '-' => value.to_string(),
            '_' => format!("{value:>width$}"),
            _ => format!("{value:0>width$}"),
        };
        let name = |name: &str| match flag {
            Some('^' | '#') => name.to_uppercase(),
            _ => name.to_owned(),
        };
        let (weekday, month) = (WEEKDAYS[self.weekday() as usize], MONTHS[self.month - 1]);
        let day_of_year = self.day_of_year();
        let whole = |format: &str| self.format(format);
        Ok(match letter {
            'Y' => number(self.year, 4, '0'),
            'C' => number(self.year / 100, 2, '0'),
            'y' => number(self.year % 100, 2, '0'),
            'm' => number(self.month as i64, 2, '0'),
            'd' => number(self.day, 2, '0'),
            'e' => number(self.day, 2, '_'),
            'j' => number(day_of_year + 1, 3, '0'),
            'B' => name(month),
            'b' | 'h' => name(&month[..3]),
            'A' => name(weekday),
            'a' => name(&weekday[..3]),
            'w' => self.weekday().to_string(),
            'u' => ((self.weekday() + 6) % 7 + 1).to_string(),
            'U' => number((day_of_year + 7 - self.weekday()) / 7, 2, '0'),
            'W' => number((day_of_year + 7 - (self.weekday() + 6) % 7) / 7, 2, '0'),
            'G' => number(self.iso_week().0, 4, '0'),
            'g' => number(self.iso_week().0 % 100, 2, '0'),
            'V' => number(self.iso_week().1, 2, '0'),
            'H' | 'M' | 'S' => number(0, 2, '0'),
            'k' => number(0, 2, '_'),
            'I' => number(12, 2, '0'),
            'l' => number(12, 2, '_'),
            'f' => "000000".to_owned(),
            'p' => if flag == Some('#') { "am" } else { "AM" }.to_owned(),
            'P' => "am".to_owned(),
            'Z' | 'z' => String::new(),
            'D' | 'x' => whole("%m/%d/%y")?,
            'F' => whole("%Y-%m-%d")?,
            'T' | 'X' => whole("%H:%M:%S")?,
            'R' => whole("%H:%M")?,
            'r' => whole("%I:%M:%S %p")?,
            'c' => whole("%a %b %e %H:%M:%S %Y")?,
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            other => return failure(format!("strftime_now: unknown letter %{other}")),
        })
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: usize) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}
