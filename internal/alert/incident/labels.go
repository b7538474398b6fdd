package incident

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
)

// Bounds of an alert's text, in bytes.
const (
	maxName  = 100  // of a label's name
	maxValue = 200  // of a label, and of annotations of one word
	maxText  = 500  // of annotations of a line
	maxLong  = 2000 // of the rule's description and of links
	maxGroup = 8    // labels that the rule groups by
)

// label is one of an alert's labels. Its value is never empty.
type label struct{ name, value string }

// identity is an alert's labels, by name.
type identity []label

// overflowLabel marks the alert for findings beyond the limits.
const overflowLabel = "overflow"

// identify says which alert f belongs to. A rule that says what it groups by says what one incident is; for others it is what one user
// does to one kind of object in one namespace.
func identify(f *alert.Finding) identity {
	id := make(identity, 0, 12)
	add := func(name, value string) {
		if value != "" {
			id = append(id, label{name, distinct(value)})
		}
	}
	add("alertname", cmp.Or(f.Title, f.Rule, "finding"))
	add("severity", string(f.Severity))
	add("cluster", f.Cluster)
	add("rule", f.Rule)
	if f.Group == nil {
		add("user", f.User)
		add("namespace", f.Event.ObjectRef.Namespace)
		add("resource", resource(f.Event))
	} else {
		for i, path := range slices.Sorted(maps.Keys(f.Group)) {
			if i == maxGroup {
				break
			}
			if path != "cluster" { // it is there already
				add(id.free(labelName(path)), f.Group[path])
			}
		}
	}
	slices.SortFunc(id, func(a, b label) int { return strings.Compare(a.name, b.name) })
	return id
}

// labelName is what path is called as a label.
func labelName(path string) string {
	switch path {
	case "user.username":
		return "user"
	case "objectRef.namespace", "objectRef.resource", "objectRef.name":
		return strings.TrimPrefix(path, "objectRef.")
	}
	b := []byte(path[:min(len(path), maxName)])
	for i, c := range b {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	if len(b) == 0 || b[0] >= '0' && b[0] <= '9' {
		return "_" + string(b)
	}
	return string(b)
}

// free is name, or a name made of it that no other label has, so that nobody's value takes the place of ours.
func (id identity) free(name string) string {
	taken := func(l label) bool { return l.name == name }
	for slices.Contains([]string{"alertname", "severity", "cluster", "rule", overflowLabel}, name) || slices.ContainsFunc(id, taken) {
		name = "group_" + name
	}
	return name
}

// overflow is the identity of the alert for findings of the same rule beyond the limits.
func (id identity) overflow() identity {
	out := make(identity, 0, 5)
	for _, l := range id {
		switch l.name {
		case "alertname", "cluster", "rule", "severity":
			out = append(out, l)
		}
	}
	i, _ := slices.BinarySearchFunc(out, overflowLabel, func(l label, name string) int { return strings.Compare(l.name, name) })
	return slices.Insert(out, i, label{overflowLabel, "true"})
}

// key is the labels as one text. No value holds NUL.
func (id identity) key() string {
	n := 0
	for _, l := range id {
		n += len(l.name) + len(l.value) + 2
	}
	b := make([]byte, 0, n)
	for _, l := range id {
		b = append(append(append(append(b, l.name...), 0), l.value...), 0)
	}
	return string(b)
}

func (id identity) value(name string) string {
	for _, l := range id {
		if l.name == name {
			return l.value
		}
	}
	return ""
}

// labels are copies: they outlive the event.
func (id identity) labels() map[string]string {
	out := make(map[string]string, len(id))
	for _, l := range id {
		out[l.name] = strings.Clone(l.value)
	}
	return out
}

func identityOf(labels map[string]string) identity {
	id := make(identity, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		id = append(id, label{name, labels[name]})
	}
	return id
}

// resource is the kind of object that ev is about: "pods/exec".
func resource(ev *audit.Event) string {
	if ev.ObjectRef.Subresource == "" {
		return ev.ObjectRef.Resource
	}
	return ev.ObjectRef.Resource + "/" + ev.ObjectRef.Subresource
}

// evidence names the i-th event of f as a search finds it: its audit id, which clients choose, and its identity, which they do not.
func evidence(f *alert.Finding, i int) string {
	if i < 0 || i >= len(f.Events) {
		return clean(f.AuditID, maxValue)
	}
	return strings.TrimSpace(clean(f.Events[i].AuditID, maxValue) + " " + clean(f.Events[i].Identity, maxValue))
}

// distinct is s as a label's value: clean, and with a hash behind it where that changed it, so that two values stay two.
func distinct(s string) string {
	if len(s) <= maxValue && isClean(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return strings.TrimSuffix(clean(s, maxValue-2*6-len(cut)), cut) + cut + hex.EncodeToString(sum[:6])
}

const cut = "…"

// clean is a copy of s with what cannot be seen, or changes how the rest is seen, replaced; of at most limit bytes.
func clean(s string, limit int) string {
	if len(s) <= limit && isClean(s) {
		return strings.Clone(s)
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			r = ' '
		case !shown(r):
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > limit-len(cut) {
			return b.String() + cut
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isClean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !shown(r) })
		}
	}
	return true
}

// shown reports whether r is a visible character or a space: no control character, no change of direction, nothing of width zero, no
// end of a line.
func shown(r rune) bool { return unicode.IsPrint(r) || unicode.Is(unicode.Zs, r) }

// Labels are those of the alert that f belongs to, as long as its rule has no more of them than the limits allow.
func Labels(f *alert.Finding) map[string]string { return identify(f).labels() }
