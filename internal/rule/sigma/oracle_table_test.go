package sigma_test

import (
	"fmt"
	"testing"
)

// TestOracleTable holds oracle, interpreter and engine to what the specification says of forms that published rules have. A rule is the
// search s, or a whole detection.
func TestOracleTable(t *testing.T) {
	for _, c := range []struct {
		rule string
		yes  []string
		no   []string
	}{
		// Backslashes: single and double are one; \\* is a backslash and a wildcard, \* a star (specification, "Escaping").
		{`{Image|endswith: '\cmd.exe'}`, []string{`{"Image":"C:\\Windows\\CMD.EXE"}`, `{"Image":"\\cmd.exe"}`}, []string{`{"Image":"cmd.exe"}`, `{"Image":"C:\\xcmd.exe"}`}},
		{`{Image: 'C:\\Windows\\*'}`, []string{`{"Image":"c:\\windows\\x"}`, `{"Image":"c:\\windows\\"}`}, []string{`{"Image":"c:\\windows*"}`, `{"Image":"c:\\windows"}`}},
		{`{Image: 'C:\Windows\*'}`, []string{`{"Image":"c:\\windows*"}`}, []string{`{"Image":"c:\\windows\\x"}`, `{"Image":"c:\\windows\\*"}`}},
		{`{Image: 'a\\\*'}`, []string{`{"Image":"a\\*"}`}, []string{`{"Image":"a\\x"}`, `{"Image":"a*"}`}},
		{`{Image|startswith: '\\\\host\'}`, []string{`{"Image":"\\\\host\\share"}`}, []string{`{"Image":"\\host\\share"}`}},
		{`{Image|startswith: '\\\host'}`, []string{`{"Image":"\\\\host"}`}, []string{`{"Image":"\\host"}`}},
		{`{Image|startswith: '\\host'}`, []string{`{"Image":"\\host"}`}, []string{`{"Image":"\\\\host"}`}},
		{`{Image|contains: '\Temp\'}`, []string{`{"Image":"C:\\Temp\\x"}`}, []string{`{"Image":"C:\\Temp"}`}},
		{`{Image|contains: 'a\'}`, []string{`{"Image":"xa\\b"}`}, []string{`{"Image":"xa*"}`}},
		{`{Image: '\\?\\C:'}`, []string{`{"Image":"\\x\\C:"}`}, []string{`{"Image":"\\?C:"}`, `{"Image":"\\\\C:"}`}},
		{`{Image: '\?'}`, []string{`{"Image":"?"}`}, []string{`{"Image":"x"}`, `{"Image":"\\x"}`}},
		// Wildcards.
		{`{x: 'prog?.exe'}`, []string{`{"x":"PROGA.exe"}`, `{"x":"progé.exe"}`}, []string{`{"x":"prog.exe"}`, `{"x":"progAB.exe"}`}},
		{`{x|contains: 'a*b'}`, []string{`{"x":"1a\n2b3"}`}, []string{`{"x":"ba"}`}},
		{`{x: '*'}`, []string{`{"x":""}`, `{"x":0}`, `{"x":["a"]}`}, []string{`{"x":null}`, `{"y":1}`}},
		{`{x: '?*'}`, []string{`{"x":"a"}`}, []string{`{"x":""}`, `{"x":null}`}},
		// Lists, all.
		{`{CommandLine|contains|all: ['-a', '/b']}`, []string{`{"CommandLine":"x /B y -A"}`}, []string{`{"CommandLine":"-a"}`}},
		{`{x|all: ['a*', '*b']}`, []string{`{"x":"ab"}`, `{"x":["ac","cb"]}`}, []string{`{"x":"a"}`}},
		{`[{x: a, y: b}, {z: c}]`, []string{`{"x":"A","y":"b"}`, `{"z":"c"}`}, []string{`{"x":"a"}`, `{"y":"b"}`}},
		// Regular expressions: as written, with case, anywhere.
		{`{x|re: 'a\.exe$'}`, []string{`{"x":"ba.exe"}`}, []string{`{"x":"ba_exe"}`, `{"x":"A.EXE"}`}},
		{`{x|re: '\\\\[a-z]+\\'}`, []string{`{"x":"q\\\\ab\\"}`}, []string{`{"x":"q\\ab\\"}`}},
		{`{x|re|i: '^A.B$'}`, []string{`{"x":"axB"}`}, []string{`{"x":"a\nb"}`}},
		{`{x|re|s|m: '^A.B$'}`, []string{`{"x":"q\nA\nB\nq"}`}, []string{`{"x":"a\nB"}`}},
		// Dashes.
		{`{x|windash|contains: ' -enc'}`, []string{`{"x":"p -enc"}`, `{"x":"p /ENC"}`, `{"x":"p –enc"}`, `{"x":"p —enc"}`, `{"x":"p ―enc"}`}, []string{`{"x":"p enc"}`, `{"x":"p\\enc"}`}},
		{`{x|windash|contains|all: [' -a', ' /b-c']}`, []string{`{"x":"p /a -b-c"}`}, []string{`{"x":"p /a -b/c"}`}},
		{`{x|contains|all|windash: ['-a ', '-b']}`, []string{`{"x":"/a /b"}`}, []string{`{"x":"/a"}`}},
		// Numbers and booleans.
		{`{EventID: 4624}`, []string{`{"EventID":4624}`, `{"EventID":"4624"}`, `{"Event":{"System":{"EventID":{"#text":4624,"#attributes":{"Qualifiers":0}}}}}`, `{"winlog":{"EventID":4624}}`}, []string{`{"EventID":46240}`, `{"EventID":"04624"}`}},
		{`{EventID: '4624'}`, []string{`{"EventID":4624}`}, nil},
		{`{EventID: [1, 4624]}`, []string{`{"EventID":"1"}`}, []string{`{"EventID":11}`}},
		{`{Initiated: 'true'}`, []string{`{"Initiated":true}`, `{"Initiated":"True"}`}, []string{`{"Initiated":1}`}},
		{`{Initiated: true}`, []string{`{"Initiated":true}`, `{"Initiated":"TRUE"}`}, []string{`{"Initiated":"yes"}`}},
		{`{x|gte: 10}`, []string{`{"x":10}`, `{"x":"10.0"}`, `{"x":[1,11]}`}, []string{`{"x":9.99}`, `{"x":"x"}`, `{}`}},
		// Empty, null, exists.
		{`{x: ''}`, []string{`{"x":""}`, `{"x":["a",""]}`}, []string{`{"x":null}`, `{}`, `{"x":" "}`}},
		{`{x: null}`, []string{`{"x":null}`, `{}`, `{"Event":{"EventData":{"Data":[{"#attributes":{"Name":"x"}}]}}}`, `{"x":{"#attributes":{"a":"b"}}}`, `{"x":{"#attributes":{"a":"b"},"#text":null}}`}, []string{`{"x":""}`, `{"x":0}`, `{"x":{}}`, `{"x":{"#text":""}}`}},
		{`{x: [null, '']}`, []string{`{"x":null}`, `{}`, `{"x":""}`}, []string{`{"x":"-"}`}},
		{`{x|exists: true}`, []string{`{"x":null}`, `{"x":[]}`, `{"x":""}`}, []string{`{"y":1}`}},
		{`{x|exists: false}`, []string{`{"y":1}`}, []string{`{"x":null}`}},
		{`{x|neq: a}`, []string{`{"x":"b"}`, `{}`}, []string{`{"x":"A"}`, `{"x":["b","a"]}`}},
		{`{x|neq: [a, b]}`, []string{`{"x":"c"}`}, []string{`{"x":"b"}`}},
		{`{x|fieldref: y}`, []string{`{"x":"a","y":"A"}`, `{"x":1,"y":"1"}`}, []string{`{"x":"a"}`, `{}`, `{"x":null,"y":null}`}},
		{`{x|fieldref|neq: y}`, []string{`{"x":"a","y":"b"}`}, []string{`{"x":"a","y":"a"}`}},
		{`{x|fieldref|endswith: y}`, []string{`{"x":"C:\\a","y":"\\A"}`}, []string{`{"x":"a","y":"ba"}`}},
		{`{x|cased: aB}`, []string{`{"x":"aB"}`}, []string{`{"x":"ab"}`}},
		// Encodings.
		{`{x|base64offset|contains: 'foobar'}`, []string{`{"x":"Zm9vYmFy"}`, `{"x":"eWZvb2Jhcg=="}`, `{"x":"eXlmb29iYXJ6"}`}, []string{`{"x":"foobar"}`}},
		{`{x|wide|base64offset|contains: 'IEX'}`, []string{`{"x":"-enc SQBFAFgA"}`}, []string{`{"x":"SUVY"}`}},
		{`{x|utf16|base64: 'a'}`, []string{`{"x":"//5hAA=="}`}, nil},
		{`{x|wide|contains: 'a*b'}`, []string{`{"x":"a\u0000zb\u0000"}`}, []string{`{"x":"azb"}`}},
		{`{x|cidr: 10.0.0.0/8}`, []string{`{"x":"10.1.1.1"}`, `{"x":["1.1.1.1","10.0.0.1"]}`}, []string{`{"x":"11.0.0.1"}`, `{"x":"10.0.0"}`}},
		// Keywords.
		{`[' -ExternalUrl ', 'event::clear']`, []string{`{"a":{"b":["x -externalurl y"]}}`, `{"m":"EVENT::CLEARx"}`}, []string{`{"event::clear":"x"}`, `{"a":"x -ExternalUrl"}`}},
		{`{'|all': ['a b', c]}`, []string{`{"x":"a b","y":"xcx"}`}, []string{`{"x":"a b"}`}},
		// Conditions.
		{`detection: {selection_a: {x: a}, selection_b: {x: b}, filter_main_null: {y: null}, filter_opt: {z: q}, condition: 1 of selection_* and not 1 of filter_*}`,
			[]string{`{"x":"a","y":1}`, `{"x":"b","y":"","z":"r"}`}, []string{`{"x":"a"}`, `{"x":"a","y":1,"z":"Q"}`, `{"y":1}`}},
		{`detection: {a: {x: a}, b: {x: b}, c: {y: c}, condition: a or b and not c}`, []string{`{"x":"a","y":"c"}`, `{"x":"b"}`}, []string{`{"x":"b","y":"c"}`}},
		{`detection: {a: {x: a}, _b: {x: b}, condition: 1 of them}`, []string{`{"x":"a"}`}, []string{`{"x":"b"}`}},
		{`detection: {a: {x: a}, b: {y: b}, condition: [a, b]}`, []string{`{"x":"a"}`, `{"y":"b"}`}, []string{`{"x":"b"}`}},
		{`detection: {a: {x: a}, b: {y: b}, condition: not a and not (b)}`, []string{`{}`}, []string{`{"x":"a"}`, `{"y":"b"}`}},
	} {
		doc := "title: t\nlogsource: {product: any}\ndetection: {s: " + c.rule + ", condition: s}\n"
		if len(c.rule) > 10 && c.rule[:10] == "detection:" {
			doc = "title: t\nlogsource: {product: any}\n" + c.rule + "\n"
		}
		b, err := newBench(true, []string{doc})
		if err != nil || b == nil {
			t.Errorf("%s: %v", c.rule, err)
			continue
		}
		for i, events := range [][]string{c.yes, c.no} {
			for _, raw := range events {
				got, err := b.judge([]byte(raw))
				if err != nil || fmt.Sprint(got) != fmt.Sprint([]bool{i == 0}) {
					t.Errorf("%s on %s: %v %v", c.rule, raw, got, err)
				}
			}
		}
	}
}
