package falco

import "strings"

// values gives what a list holds once the lists named in it have been put in. A name that leads back to a list that is being read stands for
// itself, as an unknown name does. It implements lister.
func (l *loader) values(name string) ([]string, bool) {
	d := l.lists[name]
	if d == nil || d.busy {
		return nil, false
	}
	if !d.solved {
		d.busy = true
		if l.chain++; l.chain > maxChain {
			d.cut = true
		} else {
			l.solve(d)
		}
		l.chain--
		d.busy, d.solved = false, true
	}
	return d.done, true
}

// solve puts together what d holds.
func (l *loader) solve(d *listDef) {
	seen := map[string]bool{}
	for _, item := range d.items {
		for _, v := range itemTexts(item, l) {
			if seen[v] {
				continue
			}
			if len(d.done) >= maxValues || !l.spend(1) {
				d.cut = true
				break
			}
			seen[v] = true
			d.done = append(d.done, v)
		}
		d.cut = d.cut || l.cut(item)
	}
	d.done = d.done[:len(d.done):len(d.done)]
}

// cut implements lister.
func (l *loader) cut(name string) bool {
	d := l.lists[name]
	return d != nil && d.cut
}

// maxCopied bounds the values of all lists and rules of a load.
const maxCopied = 5_000_000

// spend implements lister.
func (l *loader) spend(n int) bool {
	l.copied += n
	return l.copied <= maxCopied
}

// itemTexts is what an item of a list, or a value of an exception, becomes in a condition, where Falco puts it as it is written, in
// quotes if it has a blank: the values of the list of that name, one text, or texts with commas between. What would be no part of a
// condition is taken as it is.
func itemTexts(item string, lists lister) (out []string) {
	if l, ok := lists.values(item); ok {
		return l
	}
	if !strings.ContainsAny(item, `"', =()`) && !strings.ContainsAny(item, "\t\r\n\b\v\f") {
		return []string{item}
	}
	if strings.Contains(item, " ") && item[0] != '"' && item[0] != '\'' {
		return []string{item}
	}
	out, err := parseList("("+item+")", lists)
	if err != nil || len(out) == 0 {
		return []string{item}
	}
	return out
}

// parseList reads a list in parentheses.
func parseList(s string, lists lister) (out []string, err *syntaxError) {
	p := &parser{s: s, lists: lists}
	defer p.catch(&err)
	v := p.list()
	if p.blank(); p.i < len(s) {
		p.fail(p.i, "%s: the end is expected", p.here())
	}
	return v.texts, nil
}
