package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"golang.org/x/term"

	"whodunit/internal/audit"
	"whodunit/internal/store"
)

// printable makes hostile text safe for a terminal: what is not printable is shown escaped. lines keeps newlines.
func printable(s string, lines bool) string {
	ok := func(r rune) bool {
		return unicode.IsPrint(r) && r != unicode.ReplacementChar || lines && (r == '\n' || r == '\t')
	}
	if strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if ok(r) {
			b.WriteRune(r)
		} else {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
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
	w      *bufio.Writer
	form   string
	wide   int // columns of the terminal, 0: no limit
	zone   *time.Location
	header bool
}

func (c *cmdline) printer(form string) *printer {
	wide, tty := terminal(c.Out)
	zone := time.UTC
	if tty {
		zone = time.Local
	}
	return &printer{w: bufio.NewWriter(c.Out), form: form, wide: wide, zone: zone}
}

const eventRow = "%-23s  %-28s  %-10s  %-40s  %4s  %s"

func (p *printer) event(r *audit.Record) error {
	switch p.form {
	case "json":
		p.w.Write(oneLine(r.Event.Raw))
		return p.w.WriteByte('\n')
	case "yaml":
		return p.yaml(r)
	}
	if !p.header {
		p.header = true
		p.line(fmt.Sprintf(eventRow, "TIME", "WHO", "VERB", "WHAT", "CODE", "FROM"))
	}
	p.line(fmt.Sprintf(eventRow, r.Event.Time().In(p.zone).Format("2006-01-02 15:04:05.000"), who(&r.Event), r.Event.Verb, what(&r.Event),
		code(&r.Event), r.Event.Peer()+"  "+r.Event.UserAgent))
	return nil
}

// line writes one line, cut to the terminal's width.
func (p *printer) line(s string) {
	s = strings.TrimRight(printable(s, false), " ")
	if p.wide > 0 {
		if runes := []rune(s); len(runes) > p.wide {
			s = string(runes[:p.wide-1]) + "…"
		}
	}
	p.w.WriteString(s + "\n")
}

// oneLine makes sure that an event takes one line; line breaks can only be white space between tokens.
func oneLine(raw []byte) []byte {
	if bytes.IndexByte(raw, '\n') < 0 {
		return raw
	}
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return raw
	}
	return b.Bytes()
}

func (p *printer) yaml(r *audit.Record) error {
	var n yaml.Node // JSON is YAML: the order of the fields stays
	if err := yaml.Unmarshal(r.Event.Raw, &n); err != nil {
		return fmt.Errorf("cannot write event %s as YAML: %w", printable(r.Event.AuditID, false), err)
	}
	plain(&n)
	out, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Errorf("cannot write event %s as YAML: %w", printable(r.Event.AuditID, false), err)
	}
	p.w.WriteString("---\n")
	_, err = p.w.Write(out)
	return err
}

// plain takes JSON's flow style and quotes off, where YAML does not need them.
func plain(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, c := range n.Content {
		plain(c)
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
		fmt.Fprintf(tw, "COUNT\t%s\n", strings.ToUpper(strings.Join(names, "\t")))
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

// bar is a progress bar on a terminal, nothing elsewhere.
type bar struct {
	mu          sync.Mutex
	w           io.Writer
	total, read int64
	shown       time.Time
	now         func() time.Time
	on          bool
}

// progress makes a bar for reading files.
func (c *cmdline) progress(paths []string) *bar {
	b := &bar{w: c.Err, now: c.Now}
	_, b.on = terminal(c.Err)
	for _, p := range paths {
		if st, err := os.Stat(p); err == nil {
			b.total += st.Size()
		}
	}
	b.shown = c.Now() // nothing for what is quick
	return b
}

func (b *bar) add(_ string, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read += n
	if now := b.now(); b.on && b.total > 0 && now.Sub(b.shown) > 200*time.Millisecond {
		b.shown = now
		done := min(int(b.read*30/b.total), 30)
		fmt.Fprintf(b.w, "\r[%s%s] %3d%% of %d MB", strings.Repeat("#", done), strings.Repeat(".", 30-done), min(b.read*100/b.total, 100), b.total>>20)
	}
}

func (b *bar) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.on {
		fmt.Fprint(b.w, "\r\x1b[K")
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
