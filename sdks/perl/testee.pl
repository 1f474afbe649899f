#!/usr/bin/env perl
# A worker that does everything a worker can do, for tests of this SDK.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use POSIX ();
use Time::HiRes qw(time sleep);
use Stokehold::Worker qw(serve failure bytes);

binmode STDOUT, ':utf8';

my $echo = sub { $_[0] };

# The number under that key, or the failure that there is none.
sub number {
    my ($asked, $key) = @_;
    my $is_one = ref $asked eq 'HASH' && defined $asked->{$key} && $asked->{$key} =~ /^[0-9]+\z/;
    return $is_one ? $asked->{$key} : die failure('bad_data', "a map with the number '$key' is wanted");
}

serve({
    'DO'        => $echo,
    'test.echo' => $echo,
    'test.fail' => sub {
        my $asked = shift || {};
        die failure(defined $asked->{code} ? $asked->{code} : 'error', $asked->{message}, %$asked);
    },
    'test.raise'      => sub { die $_[0] . "\n" },
    'test.bad_result' => sub { sub { } },
    'test.sleep'      => sub {
        my ($asked, $task) = @_;
        my $end = time + number($asked, 'ms') / 1000;
        while ((my $left = $end - time) > 0) {
            $task->check_cancelled;
            sleep($left < 0.01 ? $left : 0.01);
        }
        return $asked->{ms};
    },
    'test.spin' => sub {
        my $asked = shift;
        my $end = time + number($asked, 'ms') / 1000;
        1 while time < $end;
        return $asked->{ms};
    },
    'test.items' => sub {
        my ($asked, $task) = @_;
        $task->item(defined $asked->{size} ? bytes('a' x $asked->{size}) : $_) for 0 .. number($asked, 'n') - 1;
        return $asked->{n};
    },
    'test.big'   => sub { bytes('a' x number($_[0], 'bytes')) },
    'test.print' => sub {
        my ($text, $how) = @{ $_[0] }{qw(text how)};
        if ($how eq 'print') { print "$text\n" }
        elsif ($how eq 'raw') { utf8::encode($text); POSIX::write(1, "$text\n", 1 + length $text) }
        else {
            open my $cat, '|-', 'cat' or die "cannot start cat: $!\n";
            binmode $cat, ':utf8';
            print {$cat} "$text\n";
            close $cat;
        }
        return undef;
    },
    'test.stdin' => sub {
        if ($_[0]{how} eq 'read') { local $/; my $all = <STDIN>; return length(defined $all ? $all : '') }
        my $all = `cat`;
        return length $all;
    },
    'test.spawn' => sub {
        my $seconds = number($_[0], 'ms') / 1000;
        my $pid = fork;
        exec 'sleep', $seconds if !$pid;
        return $pid;
    },
    'test.exit'     => sub { POSIX::_exit(number($_[0], 'code')) },
    'test.log'      => sub { $_[1]->log(@{ $_[0] }{qw(level msg)}); undef },
    'test.progress' => sub { my ($asked, $task) = @_; $task->progress($_, $asked->{n}) for 1 .. number($asked, 'n'); undef },
    'test.meta'     => sub {
        my $task = $_[1];
        my $left = $task->time_left;
        return { attempt => $task->attempt, key => $task->key, deadline_ms => defined $left ? int($left * 1000) : undef };
    },
    'test.env' => sub { [grep { /^STOKEHOLD_/ } keys %ENV] },
    'test.pid' => sub { { pid => $$ + 0 } },
}, window => 64);
