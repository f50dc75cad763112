#!/usr/bin/env python3
"""libtransvisor(3) from the header itself, so that it says what the header says.

  header_man.py HEADER VERSION MAN
"""
import re
import sys


def roff(text):
    text = text.replace('\\', '\\e').replace('-', '\\-')
    return re.sub(r"^([.'])", r'\\&\1', text, flags=re.M)


def comment_text(comment):
    lines = [re.sub(r'^\s*\*? ?', '', line) for line in comment.strip()[2:-2].split('\n')]
    return '\n'.join(lines).strip()


def main():
    with open(sys.argv[1], encoding='ascii') as f:
        header = f.read()
    begin = re.match(r'/\*.*?\*/', header, re.S)
    body = header[begin.end() :]
    for guard in (
        r'#ifndef TRANSVISOR_VM_H\n#define TRANSVISOR_VM_H\n',
        r'#include <.*>\n',
        r'#ifdef __cplusplus\n(?:extern "C" \{|\})\n#endif\n',
        r'#endif\s*\Z',
        r'#pragma GCC visibility .*\n',
    ):
        body = re.sub(guard, '', body)
    out = [
        f'.TH LIBTRANSVISOR 3 "" "transvisor {sys.argv[2]}" "Library Functions Manual"',
        '.SH NAME',
        'libtransvisor \\- embed a virtual PC for 32\\-bit x86 operating systems',
        '.SH SYNOPSIS',
        '.nf',
        '.B #include <transvisor/vm.h>',
        '.PP',
        'cc \\fIFILE\\fR.c $(pkg\\-config \\-\\-cflags \\-\\-libs transvisor)',
        '.fi',
        '.SH DESCRIPTION',
        roff(comment_text(begin.group())),
        '.SH INTERFACE',
    ]
    for part in re.split(r'\n{2,}', body.strip()):
        heading = re.fullmatch(r'/\* -+ (.*?) -+ \*/', part)
        if heading:
            out.append(f'.SS {roff(heading[1])}')
            continue
        leading = re.match(r'/\*.*?\*/(?=\n)', part, re.S)
        if leading:
            out += ['.PP', roff(comment_text(leading.group()))]
            part = part[leading.end() :].strip('\n')
        if part:
            out += ['.PP', '.nf', '.ft CW', roff(part.expandtabs()), '.ft', '.fi']
    out += ['.SH "SEE ALSO"', '.BR transvisor (1),', '.BR pkg\\-config (1)']
    with open(sys.argv[3], 'w', encoding='utf-8') as f:
        f.write('\n'.join(out) + '\n')


if __name__ == '__main__':
    main()
