package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"whodunit/internal/audit"
	"whodunit/internal/explain"
	"whodunit/internal/store"
)

// printable makes hostile text safe for a terminal: what is not printable is shown escaped. lines keeps newlines and tabs.
func printable(s string, lines bool) string {
	if !lines {
		return explain.Sanitize(s)
	}
	var b strings.Builder
	for {
		n := strings.IndexAny(s, "\n\t")
		if n < 0 {
			return b.String() + explain.Sanitize(s)
		}
		b.WriteString(explain.Sanitize(s[:n]))
		b.WriteByte(s[n])
		s = s[n+1:]
	}
}

// outFlag adds -o with the given forms, the first being the default.
func outFlag(cmd *cobra.Command, to *string, forms ...string) {
	cmd.Flags().StringVarP(to, "output", "o", forms[0], "form of the answer: "+strings.Join(forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	pre := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		for _, f := range forms {
			if *to == f {
				if pre != nil {
					return pre(cmd, args)
				}
				return nil
			}
		}
		return fmt.Errorf("cannot write as %q: -o takes %s", *to, strings.Join(forms, ", "))
	}
}

// printer writes events one by one.
type printer struct {
	w       *bufio.Writer
	form    string
	tty     bool // Out is a terminal: mind what it would act on, and how wide it is
	zone    *time.Location
	table   *table
	headed  bool
	finding bool // the table is of findings
}

func (c *cmdline) printer(form string, findings bool) *printer {
	wide, tty := terminal(c.Out)
	p := &printer{w: bufio.NewWriter(c.Out), form: form, tty: tty, zone: time.UTC, finding: findings}
	if tty {
		p.zone = time.Local
	}
	columns := eventColumns()
	if findings {
		columns = findingColumns()
	}
	p.table = newTable(columns, wide)
	return p
}

// show writes one record in the form asked for.
func (p *printer) show(r *audit.Record) error {
	switch p.form {
	case "json":
		return p.json(r)
	case "yaml":
		return p.yaml(r)
	}
	if !p.headed {
		p.headed = true
		p.w.WriteString(p.table.header() + "\n")
	}
	e := &r.Event
	at := e.Time().In(p.zone).Format("2006-01-02 15:04:05.000")
	var line string
	if p.finding {
		line = p.table.row(at, field(e, "severity"), ruleOf(e), field(e, "message"))
	} else {
		line = p.table.row(at, who(e), e.Verb, what(e), code(e), strings.TrimSpace(e.Peer()+"  "+e.UserAgent))
	}
	_, err := p.w.WriteString(line + "\n")
	return err
}

// ruleOf is what people know a finding's rule by, as scan shows it.
func ruleOf(e *audit.Event) string {
	format, title := field(e, "format"), field(e, "title")
	if format == "" || format == "native" || title == "" {
		return field(e, "rule")
	}
	return title
}

// field is the text of one of the event's own members.
func field(e *audit.Event, name string) string {
	for k, v := range audit.Members(e.Raw) {
		if k == name {
			t, _ := audit.Text(v)
			return t
		}
	}
	return ""
}

// json writes the raw event on one line, exactly as it is; for a terminal, what that would act on is written as an escape, which
// means the same in JSON.
func (p *printer) json(r *audit.Record) error {
	line := oneLine(r.Event.Raw)
	if p.tty {
		line = escaped(line)
	}
	p.w.Write(line)
	return p.w.WriteByte('\n')
}

// escaped writes what is not printable as JSON's \u escapes.
func escaped(line []byte) []byte {
	var b []byte
	for _, r := range string(line) {
		if unicode.IsPrint(r) {
			b = utf8.AppendRune(b, r)
			continue
		}
		for _, u := range utf16.Encode([]rune{r}) {
			b = fmt.Appendf(b, `\u%04x`, u)
		}
	}
	return b
}

// oneLine makes sure that an event takes one line; line breaks can only be white space between tokens.
func oneLine(raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') < 0 {
		return raw
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return bytes.ReplaceAll(raw, []byte{'\n'}, []byte{' '})
	}
	return b.Bytes()
}

func (p *printer) yaml(r *audit.Record) error {
	var n yaml.Node // JSON is YAML: the order of the fields stays
	if err := yaml.Unmarshal(r.Event.Raw, &n); err != nil {
		return fmt.Errorf("cannot write event %s as YAML: %w", printable(r.Event.AuditID, false), err)
	}
	plain(&n, 0)
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := errors.Join(enc.Encode(&n), enc.Close()); err != nil {
		return fmt.Errorf("cannot write event %s as YAML: %w", printable(r.Event.AuditID, false), err)
	}
	out := b.Bytes()
	if p.tty {
		out = []byte(printable(string(out), true))
	}
	p.w.WriteString("---\n")
	_, err := p.w.Write(out)
	return err
}

// blockDepth is the nesting down to which YAML is written in lines. What lies deeper stays in JSON's form: indenting the 10,000 levels that
// an API server takes would make 100 MB of one event.
const blockDepth = 100

// plain takes JSON's flow style and quotes off, where YAML does not need them: neither this one nor YAML 1.1, in which kubectl and
// others read yes as a truth value and 12:30 as a number.
func plain(n *yaml.Node, depth int) {
	if depth >= blockDepth {
		return
	}
	n.Style &^= yaml.FlowStyle
	switch strings.ToLower(n.Value) {
	case "y", "n", "yes", "no", "on", "off":
	default:
		if strings.Trim(n.Value, "0123456789:._+-") != "" || !strings.Contains(n.Value, ":") {
			n.Style &^= yaml.DoubleQuotedStyle
		}
	}
	for _, c := range n.Content {
		plain(c, depth+1)
	}
}

func who(e *audit.Event) string {
	name := e.User.Username
	if name == "" {
		name = "(unknown)"
	}
	if e.Impersonated.Username != "" {
		name += " as " + e.Impersonated.Username
	}
	return name
}

// what is the object in kubectl's words: namespace/resource.group/subresource name.
func what(e *audit.Event) string {
	r := e.ObjectRef
	if r.Resource == "" {
		uri, _, _ := strings.Cut(e.RequestURI, "?")
		return uri
	}
	s := r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Name != "" {
		s += " " + r.Name
	}
	if r.Namespace != "" {
		s += " -n " + r.Namespace
	}
	return s
}

func code(e *audit.Event) string {
	if e.Response.Code == 0 {
		return "-"
	}
	return strconv.Itoa(e.Response.Code)
}

// buckets writes counts as a table or as JSON lines.
func (c *cmdline) buckets(form string, names []string, rows []store.Bucket) error {
	w := bufio.NewWriter(c.Out)
	switch form {
	case "json":
		for _, b := range rows {
			doc := map[string]any{"count": b.Count}
			for i, v := range strings.SplitN(b.Value, "\t", len(names)) {
				doc[names[i]] = v
			}
			line, err := json.Marshal(doc)
			if err != nil {
				return fmt.Errorf("cannot write counts: %w", err)
			}
			w.Write(append(line, '\n'))
		}
	default:
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(tw, "COUNT\t%s\n", head(names))
		for _, b := range rows {
			parts := strings.SplitN(b.Value, "\t", len(names))
			for i := range parts {
				if parts[i] = printable(parts[i], false); parts[i] == "" {
					parts[i] = "-"
				}
			}
			fmt.Fprintf(tw, "%d\t%s\n", b.Count, strings.Join(parts, "\t"))
		}
		if err := tw.Flush(); err != nil {
			return fmt.Errorf("cannot write counts: %w", err)
		}
	}
	return w.Flush()
}

// head is the names of fields as the head of a table; they may be a person's, or another program's.
func head(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = printable(strings.ToUpper(n), false)
	}
	return strings.Join(out, "\t")
}

// warn says on standard error what an answer may lack.
func (c *cmdline) warn(s store.Stats) {
	if s.Damaged > 0 || s.Unreadable > 0 {
		fmt.Fprintf(c.Err, "whodunit: the answer may lack events: %d are on damaged pages, %d segments cannot be read; see 'whodunit journal check'\n",
			s.Damaged, s.Unreadable)
	}
}

// badLines counts lines that are no events.
type badLines struct {
	mu    sync.Mutex
	n     int64
	first string
}

func (b *badLines) add(path string, line int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n++; b.n == 1 {
		b.first = fmt.Sprintf("%s:%d: %v", path, line, err)
	}
}

func (b *badLines) report(w io.Writer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n > 0 {
		fmt.Fprintf(w, "whodunit: %d lines are no audit events and were left out; the first: %s\n", b.n, printable(b.first, false))
	}
}

// askPassword reads a password from the terminal without showing it.
func (c *cmdline) askPassword(user string) (string, error) {
	in, ok := c.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", fmt.Errorf("cannot ask for %s's password: put it into $WHODUNIT_PASSWORD, or use a token", printable(user, false))
	}
	fmt.Fprintf(c.Err, "Password of %s: ", printable(user, false))
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(c.Err)
	if err != nil {
		return "", fmt.Errorf("cannot read the password: %w", err)
	}
	return string(b), nil
}
