//! Text that flows down pages: headings, fields, digests for the eye.

use bundle_format::text::groups_of_four;

use crate::error::Result;
use crate::papers::page::{Document, Font, HEIGHT, MARGIN, WIDTH, fitting, wrap};

/// First line of a page, and the lowest that text may reach.
const TOP: f32 = HEIGHT - 58.0;
const BOTTOM: f32 = 56.0;
/// Where values begin, right of their labels.
const VALUES: f32 = MARGIN + 120.0;
const SIZE: f32 = 9.0;
const LEADING: f32 = 12.0;

/// A pen that moves down a document's pages.
pub struct Form<'a> {
    document: &'a mut Document,
    footer: String,
    y: f32,
}

impl<'a> Form<'a> {
    /// Begins at the top of the current page; `footer` stands on every page of the form.
    pub fn new(document: &'a mut Document, footer: &str) -> Self {
        document.footer(footer);
        Self { document, footer: footer.to_owned(), y: TOP }
    }

    /// Goes to a new page if fewer than `height` points are left on this one.
    fn room(&mut self, height: f32) -> Result<()> {
        if self.y - height >= BOTTOM {
            return Ok(());
        }
        self.document.next_page()?;
        self.document.footer(&self.footer);
        self.y = TOP;
        Ok(())
    }

    /// The form's title.
    pub fn title(&mut self, text: &str) {
        self.document.text(Font::Heading, 16.0, MARGIN, self.y, text);
        self.y -= 24.0;
    }

    /// A heading; some lines below it stay on the same page.
    pub fn heading(&mut self, text: &str) -> Result<()> {
        self.room(84.0)?;
        self.y -= 8.0;
        self.document.text(Font::Heading, 11.0, MARGIN, self.y, text);
        self.document.rule(MARGIN, self.y - 4.0, WIDTH - 2.0 * MARGIN);
        self.y -= 18.0;
        Ok(())
    }

    /// A label and its value, broken into lines.
    pub fn field(&mut self, label: &str, value: &str) -> Result<()> {
        let lines = wrap(value, fitting(WIDTH - MARGIN - VALUES, SIZE));
        for (line, first) in lines.iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
            self.room(LEADING)?;
            if first {
                self.document.text(Font::Heading, SIZE, MARGIN, self.y, label);
            }
            self.document.text(Font::Plain, SIZE, VALUES, self.y, line);
            self.y -= LEADING;
        }
        Ok(())
    }

    /// Lines of plain words across the page.
    pub fn words(&mut self, text: &str) -> Result<()> {
        for line in wrap(text, fitting(WIDTH - 2.0 * MARGIN, SIZE)) {
            self.room(LEADING)?;
            self.document.text(Font::Plain, SIZE, MARGIN, self.y, &line);
            self.y -= LEADING;
        }
        Ok(())
    }

    /// A name with its digest in groups of four, to be compared by eye; the two stay together.
    pub fn digest(&mut self, name: &str, digits: &str, look: Digest) -> Result<()> {
        let (size, groups) = match look {
            Digest::Large => (14.0, 8),
            Digest::Small => (SIZE, 12),
        };
        let names = wrap(name, fitting(WIDTH - 2.0 * MARGIN, SIZE));
        let rows = rows(digits, groups);
        let leading = size * 1.4;
        self.room(points(names.len()) * LEADING + points(rows.len()) * leading + 6.0)?;
        for line in names {
            self.document.text(Font::Bold, SIZE, MARGIN, self.y, &line);
            self.y -= LEADING;
        }
        self.y -= size - SIZE;
        for row in rows {
            self.document.text(Font::Plain, size, MARGIN + 18.0, self.y, &row);
            self.y -= leading;
        }
        self.y -= 6.0;
        Ok(())
    }

    /// A line for a signature in ink, with the name under it.
    pub fn signature(&mut self, who: &str) -> Result<()> {
        self.room(48.0)?;
        self.y -= 24.0;
        for (x, width, label) in [(MARGIN, 300.0, who), (MARGIN + 330.0, 150.0, "date and time (Z)")] {
            self.document.rule(x, self.y, width);
            for (line, below) in wrap(label, fitting(width, 8.0)).iter().take(2).zip([10.0, 19.0]) {
                self.document.text(Font::Plain, 8.0, x, self.y - below, line);
            }
        }
        self.y -= 26.0;
        Ok(())
    }
}

/// How large a digest is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digest {
    /// For the one that everybody compares.
    Large,
    /// For those of files.
    Small,
}

/// Rows of hexadecimal digits, `groups` groups of four each.
pub fn rows(digits: &str, groups: usize) -> Vec<String> {
    let grouped = groups_of_four(digits);
    let all: Vec<&str> = grouped.split(' ').collect();
    all.chunks(groups.max(1)).map(|row| row.join(" ")).collect()
}

fn points(lines: usize) -> f32 {
    f32::from(u16::try_from(lines).unwrap_or(u16::MAX))
}
