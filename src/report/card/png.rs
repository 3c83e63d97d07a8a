//! The card as PNG, for places that show no SVG. Drawing it takes 35 crates, so only builds that want it have it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::SIZE;

/// The letters that the PNG is made with: a part of DejaVu Sans, see `templates/font/LICENSE`.
const FONTS: [&[u8]; 2] = [
    include_bytes!("../../../templates/font/DejaVuSans.ttf"),
    include_bytes!("../../../templates/font/DejaVuSans-Bold.ttf"),
];

/// Draws a card's SVG, with letters that come along.
pub fn draw(svg: &str) -> Result<Vec<u8>> {
    let mut fonts = fontdb::Database::new();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    let options = Options { font_family: "DejaVu Sans".into(), fontdb: Arc::new(fonts), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("failed to read the card")?;
    let mut picture = Pixmap::new(SIZE.0, SIZE.1).context("failed to make room for the card")?;
    resvg::render(&tree, Transform::identity(), &mut picture.as_mut());
    picture.encode_png().context("failed to write the card as PNG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_come_along_and_a_broken_card_is_an_error() {
        let svg = |text: &str| {
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1200\" height=\"630\"><text x=\"9\" y=\"99\" font-size=\"60\">{text}</text></svg>"
            )
        };
        let dark = |text: &str| {
            let picture = Pixmap::decode_png(&draw(&svg(text)).unwrap()).unwrap();
            assert_eq!((picture.width(), picture.height()), SIZE);
            picture.pixels().iter().filter(|pixel| pixel.alpha() > 128).count()
        };
        assert_eq!(dark(""), 0);
        for text in ["level", "é", "→", "✓", "✗", "⚠", "…", "·"] {
            assert!(dark(text) > 20, "`{text}` has no letters");
        }
        assert!(draw("<svg").unwrap_err().to_string().starts_with("failed to read the card"));
    }
}
