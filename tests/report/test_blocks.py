from tailora.report.blocks import Bar, Cell, Column, Page, Section, Table, write_page


def test_a_bar_hides_nothing_of_its_cell(tmp_path):
    cell = Cell("23.4", "[10.0, 31.2]", title="all of it", bar=Bar(0.234, 0.1, 0.312), tag="few")
    table = Table((Column("class"), Column("IoU")), ((Cell("water"), cell),), "scores")
    page = Page("A", "b", (Section("a", "A", "", (table,)),), "tailora")
    text = write_page(page, tmp_path / "page.html").read_text("utf-8")
    for part in ("23 of 100", ">23.4<", "[10.0, 31.2]", 'title="all of it"', ">few<"):
        assert part in text
