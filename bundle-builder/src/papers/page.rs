//! Pages, text and bands on top of a PDF writer: just what forms and labels need.
//!
//! Letter size, the standard fonts Helvetica and Courier, no embedding, no clock: the same content
//! gives the same bytes. What must be measured is set in Courier, whose letters are all 0.6 em wide.

use bundle_format::marking::Marking;
use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};

use crate::error::{ErrorKind, Result};

/// Page width in points.
pub const WIDTH: f32 = 612.0;
/// Page height in points.
pub const HEIGHT: f32 = 792.0;
/// Nothing but banners stands in these margins.
pub const MARGIN: f32 = 54.0;
const BANNER_HEIGHT: f32 = 20.0;
/// Width of a Courier letter in em.
const COURIER: f32 = 0.6;
/// Smallest and largest size of a marking: it must be legible at arm's length.
const MARKING_SIZES: (f32, f32) = (6.0, 12.0);

/// A font of the fourteen that every reader has (ISO 32000-1, 9.6.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Font {
    /// Helvetica-Bold, for headings.
    Heading,
    /// Courier, for whatever a person compares.
    Plain,
    /// Courier-Bold.
    Bold,
}

impl Font {
    const ALL: [(Self, &'static [u8], &'static [u8]); 3] = [
        (Self::Heading, b"F1", b"Helvetica-Bold"),
        (Self::Plain, b"F2", b"Courier"),
        (Self::Bold, b"F3", b"Courier-Bold"),
    ];

    fn name(self) -> Name<'static> {
        Name(Self::ALL.iter().find(|(font, ..)| *font == self).map_or(b"F2", |(_, name, _)| *name))
    }
}

/// A document that grows page by page; every page has the marking at its top and bottom.
pub struct Document {
    title: String,
    marking: Marking,
    pages: Vec<Page>,
    page: Page,
}

struct Page {
    content: Content,
    footer: Option<String>,
}

impl Page {
    fn empty() -> Self {
        Self { content: Content::new(), footer: None }
    }
}

impl Document {
    /// A document with its first page.
    pub fn new(title: &str, marking: &Marking) -> Result<Self> {
        let (title, marking) = (title.to_owned(), marking.clone());
        let mut document = Self { title, marking, pages: Vec::new(), page: Page::empty() };
        document.banners()?;
        Ok(document)
    }

    /// Ends the page and begins another.
    pub fn next_page(&mut self) -> Result<()> {
        self.pages.push(std::mem::replace(&mut self.page, Page::empty()));
        self.banners()
    }

    /// Sets the line at this page's foot; its number is added to it.
    pub fn footer(&mut self, text: &str) {
        self.page.footer = Some(text.to_owned());
    }

    fn banners(&mut self) -> Result<()> {
        for y in [HEIGHT - 6.0 - BANNER_HEIGHT, 6.0] {
            self.band(MARGIN / 2.0, y, WIDTH - MARGIN)?;
        }
        Ok(())
    }

    /// A coloured band with the marking, its lower left corner at `x`, `y`.
    pub fn band(&mut self, x: f32, y: f32, width: f32) -> Result<()> {
        let text = self.marking.to_string();
        let (smallest, largest) = MARKING_SIZES;
        let size = ((width - 8.0) / (COURIER * letters(&text))).min(largest);
        if size < smallest {
            return Err(ErrorKind::Usage(format!("marking {text} is too long for a label; print one by hand")).into());
        }
        let level = self.marking.level();
        let [red, green, blue] = level.colour().map(|part| f32::from(part) / 255.0);
        let ink = if level.dark_text() { 0.0 } else { 1.0 };
        let content = &mut self.page.content;
        content.set_fill_rgb(red, green, blue).rect(x, y, width, BANNER_HEIGHT).fill_nonzero();
        content.set_fill_rgb(ink, ink, ink);
        let start = x + (width - COURIER * size * letters(&text)) / 2.0;
        self.text(Font::Bold, size, start, y + (BANNER_HEIGHT - size) / 2.0 + size * 0.15, &text);
        self.page.content.set_fill_rgb(0.0, 0.0, 0.0);
        Ok(())
    }

    /// One line of text from `x`, `y` on.
    pub fn text(&mut self, font: Font, size: f32, x: f32, y: f32, text: &str) {
        show(&mut self.page.content, font, size, (x, y), text);
    }

    /// A thin line to the right, to be written on or to part things.
    pub fn rule(&mut self, x: f32, y: f32, width: f32) {
        self.page.content.set_line_width(0.5).move_to(x, y).line_to(x + width, y).stroke();
    }

    /// A thin frame.
    pub fn frame(&mut self, x: f32, y: f32, width: f32, height: f32) {
        self.page.content.set_line_width(0.5).rect(x, y, width, height).stroke();
    }

    /// The PDF's bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.pages.push(self.page);
        let count = self.pages.len();
        let (mut pdf, mut ids) = (Pdf::new(), (1..).map(Ref::new));
        // The range of ids has no end before the memory's.
        let mut id = || ids.next().unwrap_or(Ref::new(i32::MAX));
        let (catalog, tree, info) = (id(), id(), id());
        let fonts: Vec<(Name<'_>, Ref)> = Font::ALL.iter().map(|(_, name, _)| (Name(name), id())).collect();
        let pages: Vec<(Ref, Ref)> = self.pages.iter().map(|_| (id(), id())).collect();
        pdf.catalog(catalog).pages(tree).lang(TextStr("en"));
        pdf.document_info(info).title(TextStr(&self.title)).creator(TextStr("bundle-builder papers"));
        for ((_, _, base), (_, id)) in Font::ALL.iter().zip(&fonts) {
            pdf.type1_font(*id).base_font(Name(base)).encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        pdf.pages(tree).kids(pages.iter().map(|(page, _)| *page)).count(i32::try_from(count).unwrap_or(i32::MAX));
        for ((mut drawn, (page_id, content_id)), number) in self.pages.into_iter().zip(pages).zip(1..) {
            if let Some(footer) = &drawn.footer {
                let text = format!("{footer}   page {number} of {count}");
                show(&mut drawn.content, Font::Plain, 8.0, (MARGIN, 36.0), &text);
            }
            let mut page = pdf.page(page_id);
            page.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(tree).contents(content_id);
            page.resources().fonts().pairs(fonts.iter().copied());
            page.finish();
            pdf.stream(content_id, &drawn.content.finish());
        }
        pdf.finish()
    }
}

fn show(content: &mut Content, font: Font, size: f32, (x, y): (f32, f32), text: &str) {
    content.begin_text().set_font(font.name(), size).next_line(x, y).show(Str(&win_ansi(text))).end_text();
}

/// Letters that fit into `width` in Courier.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "widths and sizes are constants of this module"
)]
pub fn fitting(width: f32, size: f32) -> usize {
    (width / (COURIER * size)) as usize
}

/// Breaks text at spaces into lines of at most `letters`; a longer word is cut.
pub fn wrap(text: &str, letters: usize) -> Vec<String> {
    let letters = letters.max(1);
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in printable(text).split(' ') {
        let length = |text: &str| text.chars().count();
        if !line.is_empty() && length(&line) + 1 + length(word) > letters {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        for letter in word.chars() {
            if length(&line) == letters {
                lines.push(std::mem::take(&mut line));
            }
            line.push(letter);
        }
    }
    lines.push(line);
    lines
}

fn letters(text: &str) -> f32 {
    f32::from(u16::try_from(printable(text).chars().count()).unwrap_or(u16::MAX))
}

/// What the standard fonts can show; everything else becomes an escape, so that nothing is lost
/// without a trace.
fn printable(text: &str) -> String {
    let latin = |c: char| matches!(c, ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{ff}');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if latin(c) {
            out.push(c);
        } else {
            out.extend(c.escape_unicode());
        }
        out
    })
}

/// WinAnsiEncoding is Latin-1 for the letters that [`printable`] leaves (ISO 32000-1, annex D).
fn win_ansi(text: &str) -> Vec<u8> {
    printable(text).chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_spaces_and_long_words_are_cut() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("é\u{202e}", 20), ["é\\u{202e}"]);
    }

    #[test]
    fn text_of_the_fonts_and_escapes_for_the_rest() {
        assert_eq!(win_ansi("Aé~"), [b'A', 0xe9, b'~']);
        assert_eq!(win_ansi("\u{2014}\n"), b"\\u{2014}\\u{a}");
    }

    #[test]
    fn same_content_same_bytes_and_a_marking_that_does_not_fit_is_refused() {
        let make = || {
            let mut document = Document::new("t", &Marking::parse("SECRET//NOFORN").unwrap()).unwrap();
            document.text(Font::Plain, 10.0, 60.0, 700.0, "text");
            document.next_page().unwrap();
            document.footer("foot");
            document.finish()
        };
        assert_eq!(make(), make());
        assert!(make().starts_with(b"%PDF-"));
        let codes: Vec<String> =
            (0..50u8).map(|n| format!("A{}{}", char::from(b'A' + n / 26), char::from(b'A' + n % 26))).collect();
        let marking = Marking::parse(&format!("SECRET//REL TO USA, {}", codes.join(", "))).unwrap();
        assert!(matches!(Document::new("t", &marking).err().unwrap().kind(), ErrorKind::Usage(_)));
    }
}
