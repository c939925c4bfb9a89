//! The rows as bars, on a logarithmic scale.

use std::path::Path;

use plotters::prelude::{
    BLACK, BLUE, ChartBuilder, Color as _, GREEN, IntoDrawingArea as _, IntoFont as _,
    IntoLogRange as _, RED, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};

use crate::row::Row;
use crate::stats::Samples;

const WIDTH: u32 = 1100;
const HEIGHT_OF_ROW: u32 = 64;
const MARGIN: u32 = 90;
/// Positions of the bars of patchbay, the comparison and the floor in a row of height 1.
const BARS: [f64; 3] = [0.56, 0.34, 0.12];
const THICKNESS: f64 = 0.18;
/// Where bars begin, in milliseconds.
const BEGIN: f64 = 0.1;

/// Draws an SVG file.
pub(crate) fn draw(path: &Path, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let count = u32::try_from(rows.len())?;
    let root = SVGBackend::new(path, (WIDTH, HEIGHT_OF_ROW * count + MARGIN)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = rows.iter().flat_map(bars).map(|(_, took, _)| took.most());
    let most = most.fold(10.0, f64::max) * 4.0;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "blue: patchbay; red: compared with; green: floor (median, ms)",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(30)
        .build_cartesian_2d((BEGIN..most).log_scale(), 0.0..f64::from(count))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .draw()?;
    for (place, row) in (0..count).rev().zip(rows) {
        let bottom = f64::from(place);
        let label = Text::new(
            row.work,
            (BEGIN, bottom + 0.98),
            ("sans-serif", 14).into_font(),
        );
        chart.draw_series([label])?;
        for (height, took, color) in bars(row) {
            let (low, high) = (bottom + height, bottom + height + THICKNESS);
            let end = took.median().max(BEGIN);
            let bar = Rectangle::new([(BEGIN, low), (end, high)], color.mix(0.6).filled());
            chart.draw_series([bar])?;
            let number = format!(" {:.1}", took.median());
            let font = ("sans-serif", 11).into_font().color(&BLACK);
            chart.draw_series([Text::new(number, (end, high), font)])?;
        }
    }
    root.present()?;
    Ok(())
}

fn bars(row: &Row) -> impl Iterator<Item = (f64, &Samples, RGBColor)> {
    let took = [
        Some(&row.ours),
        row.peer.as_ref().map(|peer| &peer.took),
        row.floor.as_ref().map(|floor| &floor.took),
    ];
    let kinds = BARS.into_iter().zip([BLUE, RED, GREEN]);
    let bars = kinds.zip(took);
    bars.filter_map(|((height, color), took)| took.map(|took| (height, took, color)))
}
