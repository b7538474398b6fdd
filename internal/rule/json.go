package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parseJSON reads JSON as the YAML parser reads YAML, with lines and columns, for front ends that know one form. The YAML parser
// itself refuses tabs and some escapes that JSON has.
func parseJSON(s string) (*yaml.Node, error) {
	j := jsonReader{s: strings.TrimPrefix(s, "\ufeff"), line: 1, column: 1}
	j.dec = json.NewDecoder(strings.NewReader(j.s))
	j.dec.UseNumber()
	n, err := j.value(0)
	if err == nil {
		if _, end := j.dec.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the JSON value")
		}
	}
	if err != nil {
		j.moveTo(int(j.dec.InputOffset()))
		return nil, fmt.Errorf("line %d: %w", j.line, err)
	}
	return n, nil
}

type jsonReader struct {
	s            string
	dec          *json.Decoder
	at           int // how far line and column have been counted
	line, column int
	nodes        int
}

func (j *jsonReader) moveTo(to int) {
	for ; j.at < to && j.at < len(j.s); j.at++ {
		if j.column++; j.s[j.at] == '\n' {
			j.line, j.column = j.line+1, 1
		}
	}
}

// next gives the next token and a node at its place.
func (j *jsonReader) next() (json.Token, *yaml.Node, error) {
	if j.nodes++; j.nodes > MaxNodes { // before they are made: a node takes a hundred times the two bytes of a number
		return nil, nil, fmt.Errorf("more than %d values", MaxNodes)
	}
	from := int(j.dec.InputOffset())
	t, err := j.dec.Token()
	if err != nil {
		return nil, nil, err
	}
	for from < len(j.s) && strings.IndexByte(" \t\r\n,:", j.s[from]) >= 0 {
		from++
	}
	j.moveTo(from)
	return t, &yaml.Node{Line: j.line, Column: j.column}, nil
}

func (j *jsonReader) value(depth int) (*yaml.Node, error) {
	if depth > 1000 {
		return nil, errors.New("nested deeper than 1000")
	}
	t, n, err := j.next()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if t == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for j.dec.More() {
			c, err := j.value(depth + 1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, c)
		}
		_, err := j.dec.Token()
		return n, err
	case string:
		n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!bool", fmt.Sprint(t)
	default:
		n.Kind, n.Tag, n.Value = yaml.ScalarNode, "!!null", "null"
	}
	return n, nil
}
