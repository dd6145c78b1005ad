//! Small charts drawn here as SVG: a line over the last day, told in words too.

use maud::{Markup, html};

/// Width and height, in the units of the drawing.
const SIZE: (f64, f64) = (240.0, 44.0);

/// A line over these values, evenly spaced; `told` says the same in words.
#[must_use]
pub(super) fn line(values: &[f64], told: &str) -> Markup {
    let points = points(values);
    let frame = format!("0 0 {} {}", SIZE.0, SIZE.1);
    html! {
        svg.spark viewBox=(frame) role="img" aria-label=(told) preserveAspectRatio="none" {
            title { (told) }
            @if points.is_empty() {
                text.quiet x="4" y="28" { "–" }
            } @else {
                polyline points=(points) {}
            }
        }
    }
}

fn points(values: &[f64]) -> String {
    if values.len() < 2 {
        return String::new();
    }
    let most = values.iter().copied().fold(1.0, f64::max);
    let mut text = String::new();
    let mut index = 0.0;
    let last = values.iter().skip(1).fold(0.0, |count, _| count + 1.0);
    for value in values {
        let x = 2.0 + (SIZE.0 - 4.0) * index / last;
        let y = SIZE.1 - 2.0 - (SIZE.1 - 4.0) * (value.max(0.0) / most);
        text.push_str(&format!("{x:.1},{y:.1} "));
        index += 1.0;
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_inside_its_drawing() {
        assert_eq!(points(&[]), "");
        assert_eq!(points(&[5.0]), "", "one value is no line");
        assert_eq!(points(&[0.0, 10.0]), "2.0,42.0 238.0,2.0");
        assert_eq!(points(&[0.0, 0.0, 0.0]), "2.0,42.0 120.0,42.0 238.0,42.0");
    }
}
