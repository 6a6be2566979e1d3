package term

import (
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/lipgloss/table"
	"github.com/charmbracelet/x/ansi"
)

// columnGap is what stands between two columns.
const columnGap = 2

// Table is rows under headings. Numbers are aligned by the columns named in Right.
type Table struct {
	Header []string
	Rows   [][]string
	Right  []int // columns that are aligned to the right, from 0
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Table writes a table to the results: on a terminal fitted to its width, cells wrapped;
// elsewhere aligned plain text of any width, one row a line.
func (t *Terminal) Table(tab Table) { t.Printf("%s", t.renderTable(tab)) }

// Fits says whether the table is shown as it is: on a terminal that is wide enough, or piped.
func (t *Terminal) Fits(tab Table) bool { return !t.out.tty || naturalWidth(tab) <= t.Width() }

func (t *Terminal) renderTable(tab Table) string {
	for i, row := range tab.Rows {
		cells := make([]string, len(tab.Header))
		copy(cells, row)
		for j := range cells {
			cells[j] = strings.ReplaceAll(cleanCell(cells[j]), "\n", " ")
		}
		tab.Rows[i] = cells
	}
	if t.Fits(tab) {
		return t.boldFirstLine(plainTable(tab))
	}
	return t.fittedTable(tab)
}

// cleanCell keeps our own colors and makes everything else harmless.
func cleanCell(s string) string {
	if strings.HasPrefix(s, "\x1b[") && ansi.Strip(s) == Clean(ansi.Strip(s)) {
		return s
	}
	return Clean(s)
}

func (t *Terminal) boldFirstLine(text string) string {
	head, rest, _ := strings.Cut(text, "\n")
	return t.Strong(head) + "\n" + rest
}

func (t *Terminal) fittedTable(tab Table) string {
	plain, right := t.outStyle(), make(map[int]bool)
	for _, c := range tab.Right {
		right[c] = true
	}
	styled := table.New().Headers(tab.Header...).Rows(tab.Rows...).Width(t.Width()).Wrap(true).
		Border(lipgloss.HiddenBorder()).BorderTop(false).BorderBottom(false).BorderLeft(false).
		BorderRight(false).BorderHeader(false).BorderColumn(true).
		StyleFunc(func(row, col int) lipgloss.Style {
			s := plain
			if row == table.HeaderRow {
				s = s.Bold(true)
			}
			if right[col] {
				s = s.Align(lipgloss.Right)
			}
			return s
		})
	return styled.Render() + "\n"
}

func naturalWidth(tab Table) int {
	total := -columnGap
	for _, w := range widths(tab) {
		total += w + columnGap
	}
	return total
}

func widths(tab Table) []int {
	ws := make([]int, len(tab.Header))
	for _, row := range append([][]string{tab.Header}, tab.Rows...) {
		for i, cell := range row {
			ws[i] = max(ws[i], ansi.StringWidth(cell))
		}
	}
	return ws
}

// plainTable aligns columns by spaces, without any at the end of a line.
func plainTable(tab Table) string {
	ws, right := widths(tab), make(map[int]bool)
	for _, c := range tab.Right {
		right[c] = true
	}
	var b strings.Builder
	for _, row := range append([][]string{tab.Header}, tab.Rows...) {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", ws[i]-ansi.StringWidth(cell))
			if right[i] {
				line.WriteString(pad + cell)
			} else {
				line.WriteString(cell + pad)
			}
			line.WriteString(strings.Repeat(" ", columnGap))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
