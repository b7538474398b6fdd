package explain

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line tells the act in one line, safe for a terminal: hostile text is escaped, quoted where it could be mistaken for our own
// words, and cut after 200 characters. The full texts are in the JSON form.
func (a *Act) Line() string {
	var b strings.Builder
	b.WriteString(a.Time.UTC().Format("2006-01-02 15:04:05.000Z") + "  ")
	if a.Cluster != "" {
		b.WriteString("[" + word(a.Cluster) + "] ")
	}
	who := "somebody unauthenticated"
	if a.User != "" {
		who = word(a.User)
	}
	b.WriteString(who)
	if a.As != "" {
		b.WriteString(" as " + word(a.As))
	}
	b.WriteString(" " + a.claim() + " " + word(a.Object))
	if a.Subresource != "" && (a.Did == "changed" || a.Did == "read") {
		b.WriteString("/" + word(a.Subresource))
	}
	if a.Namespace != "" {
		b.WriteString(" in " + word(a.Namespace))
	}
	if a.Replicas != nil {
		fmt.Fprintf(&b, " to %d replicas", *a.Replicas)
	}
	if len(a.Command) > 0 {
		b.WriteString(": " + Command(a.Command))
	}
	if a.Note != "" {
		b.WriteString(" (" + Sanitize(a.Note) + ")")
	}
	if a.Address != "" {
		b.WriteString(", from " + word(a.Address))
	}
	if len(a.Claimed) > 0 {
		claimed := make([]string, len(a.Claimed))
		for i, c := range a.Claimed {
			claimed[i] = word(c)
		}
		b.WriteString(" (claims to come from " + Cut(strings.Join(claimed, ", ")) + ")")
	}
	if a.Agent != "" {
		b.WriteString(" with " + word(ShortAgent(a.Agent)))
	}
	b.WriteString(": " + a.ending())
	ids := make([]string, len(a.AuditIDs))
	for i, id := range a.AuditIDs {
		ids[i] = word(id)
	}
	return b.String() + " [" + strings.Join(ids, " ") + "]"
}

// claim words what was done, or what was tried.
func (a *Act) claim() string {
	s := a.Did
	if a.Outcome == Denied || a.Outcome == Failed {
		s = "tried to " + infinitive(s)
	}
	if a.DryRun {
		s = "(dry run) " + s
	}
	return s
}

// infinitive is what Did says, as something not done.
func infinitive(did string) string {
	verb, rest, _ := strings.Cut(did, " ")
	switch verb {
	case "read", "put":
	case "exec'd":
		verb = "exec"
	case "listed", "watched", "attached":
		verb = strings.TrimSuffix(verb, "ed")
	case "deleted", "created", "changed", "scaled":
		verb = strings.TrimSuffix(verb, "d")
	case "evicted":
		verb = "evict"
	}
	return strings.TrimSpace(verb + " " + rest)
}

// ending tells how the request ended and what allowed it.
func (a *Act) ending() string {
	var b strings.Builder
	b.WriteString(a.Outcome)
	switch {
	case a.Outcome == Unknown:
		b.WriteString(", no answer recorded")
	case a.Code != 0 && a.Outcome != OK:
		b.WriteString(" " + strconv.Itoa(a.Code))
	}
	if a.Why != "" {
		b.WriteString(" (" + Cut(Sanitize(a.Why)) + ")")
	}
	switch g := a.Grant; {
	case g != nil:
		name := word(g.Name)
		if g.Namespace != "" {
			name += " in " + word(g.Namespace)
		}
		b.WriteString(", allowed by " + g.Kind + " " + name + " (" + g.RoleKind + " " + word(g.Role) + ", " + g.SubjectIs + " " + word(g.Subject) + ")")
	case a.Reason != "" && a.Outcome == OK:
		b.WriteString(", allowed by " + Cut(Sanitize(a.Reason)))
	}
	return b.String()
}

// Sanitize makes hostile text safe for one line of a terminal: whatever is not a printable character, such as control
// characters, changes of direction and invalid UTF-8, is written as a Go escape.
func Sanitize(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// Cut shortens a text to 200 characters.
func Cut(s string) string {
	const most = 200
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "…"
		}
	}
	return s
}

// word is a hostile text as one word of a line: quoted if it has spaces or brackets, with which it could feign our own words.
func word(s string) string {
	if s == "" || strings.ContainsAny(s, " \"'()[],;") || strings.HasSuffix(s, ":") {
		return strconv.Quote(Cut(s))
	}
	return Cut(Sanitize(s))
}

// ShortAgent is a user agent's program and version, without what is behind.
func ShortAgent(agent string) string {
	first, _, _ := strings.Cut(agent, " ")
	return first
}

// Command is a command line as a shell would take it.
func Command(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		w = Sanitize(w)
		if w == "" || strings.ContainsFunc(w, func(r rune) bool {
			return !(unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:=@%+,", r))
		}) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		out[i] = w
	}
	return Cut(strings.Join(out, " "))
}

// Write writes an act to a line each, oldest first, or says that there is none.
func Write(w io.Writer, q Question, acts []*Act, cut bool) error {
	var b strings.Builder
	if len(acts) == 0 {
		fmt.Fprintf(&b, "nothing recorded says that anybody %s %s\n", q.Verb, Sanitize(q.Object.String()))
	}
	for _, a := range acts {
		b.WriteString(a.Line() + "\n")
	}
	if cut {
		fmt.Fprintf(&b, "… and earlier ones: only the last %d are shown\n", len(acts))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
