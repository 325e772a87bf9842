//! Media labels: six to a sheet, 4 by 3 1/3 inches, one for each volume.

use bundle_format::custody::Record;
use bundle_format::set::{SetFile, SetList};
use bundle_format::text::groups_of_four;

use crate::error::Result;
use crate::papers::form::rows;
use crate::papers::page::{Document, Font, HEIGHT, fitting, wrap};

/// Label sheet: 2 by 3, as sold (4 x 3 1/3 in).
const LABEL: (f32, f32) = (288.0, 240.0);
const PER_PAGE: usize = 6;
const LEFT: f32 = 11.25;
const GUTTER: f32 = 13.5;
const TOP: f32 = 36.0;
/// Hexadecimal digits of the set id on a label.
const SHORT_SET: usize = 16;

/// Sets the labels of all volumes on new pages.
pub fn set(document: &mut Document, record: &Record, list: &SetList) -> Result<()> {
    for page in list.files.chunks(PER_PAGE) {
        document.next_page()?;
        for (file, place) in page.iter().zip(0u8..) {
            let (column, row) = (f32::from(place % 2), f32::from(place / 2));
            let x = LEFT + column * (LABEL.0 + GUTTER);
            let y = HEIGHT - TOP - (row + 1.0) * LABEL.1;
            label(document, (x, y), file, record, list)?;
        }
    }
    Ok(())
}

fn label(document: &mut Document, (x, y): (f32, f32), file: &SetFile, record: &Record, list: &SetList) -> Result<()> {
    document.frame(x + 2.0, y + 2.0, LABEL.0 - 4.0, LABEL.1 - 4.0);
    document.band(x + 6.0, y + LABEL.1 - 28.0, LABEL.0 - 12.0)?;
    document.band(x + 6.0, y + 8.0, LABEL.0 - 12.0)?;
    let kind = if file.number <= list.data_volumes { "data" } else { "parity" };
    let set: String = list.set.chars().take(SHORT_SET).collect();
    let day: String = record.at.as_str().chars().take(10).collect();
    let total = usize::from(list.data_volumes) + usize::from(list.parity_volumes);
    let product = format!("{} {}", list.product, list.release);
    let width = LABEL.0 - 24.0;
    let mut at = y + LABEL.1 - 32.0;
    let mut line = |document: &mut Document, font, size, text: &str| {
        at -= size * 1.4;
        document.text(font, size, x + 12.0, at, text);
    };
    for text in wrap(&product, fitting(width, 12.0)).iter().take(2) {
        line(document, Font::Bold, 12.0, text);
    }
    line(document, Font::Bold, 16.0, &format!("volume {} of {total}", file.number));
    line(document, Font::Plain, 10.0, &format!("{kind} volume   {day}"));
    line(document, Font::Plain, 10.0, &format!("set {}", groups_of_four(&set)));
    for text in wrap(&file.name, fitting(width, 8.0)).iter().take(2) {
        line(document, Font::Plain, 8.0, text);
    }
    line(document, Font::Plain, 8.0, "SHA-384");
    for row in rows(&file.sha384.to_string(), 6) {
        line(document, Font::Plain, 12.0, &row);
    }
    Ok(())
}
