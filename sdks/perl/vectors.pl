#!/usr/bin/env perl
# Reads the table of the test vectors (`stokehold conform vectors --tsv`) from a file, and looks whether this SDK takes each message
# of binary frames as the vector says, and writes its data again in the shortest form.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Stokehold::Worker;

# Whether two encodings are one value: a hash forgets the order of its keys, so that the pairs of a map may stand in another.
sub same {
    my ($found, $wanted) = @_;
    return 1 if $found eq $wanted;
    return 0 if $wanted !~ /^[\x80-\x8f\xde\xdf\x90-\x9f\xdc\xdd]/;
    return join('', sort split //, $found) eq join('', sort split //, $wanted);
}

# What is wrong with this SDK's reading of the message; nothing if all is well.
sub judge {
    my ($verdict, $stage, $body, $spec, $shortest) = @_;
    my ($request, $at) = eval { Stokehold::Worker::read_head($body) };
    return $verdict eq 'accept' || $stage eq 'data' ? "the head is refused: $@" : '' if !defined $at;
    return $verdict eq 'reject' ? 'the head is accepted' : '' if $stage eq 'head' && $verdict ne 'accept';
    my $found = eval { Stokehold::Worker::encode(Stokehold::Worker::decode_all($body, $at)) };
    return $verdict eq 'accept' ? "the data is refused: $@" : '' if !defined $found;
    # [D-13] lets a child accept what only these forbid.
    return $spec =~ /^D-[4-7]\z/ ? '' : 'the data is accepted' if $verdict eq 'reject';
    return same($found, $shortest) ? '' : 'the data is written otherwise: ' . unpack 'H*', substr $found, 0, 40;
}

# A tied array that says to be longer each time it is asked.
{
    package Growing;
    sub TIEARRAY { my $asked = 0; bless \$asked }
    sub FETCHSIZE { 3 + ${ $_[0] }++ }
    sub FETCH { $_[1] }
}

# What is wrong with how values are written that no vector has.
sub judge_values {
    my @problems;
    my $shared = 'x' x 100_000;
    $shared = [$shared, $shared] for 1 .. 40;
    my $large = eval { Stokehold::Worker::encode($shared) } ? 'no failure' : ref $@ ? $@->{code} : $@;
    push @problems, "a large value in little memory: $large" if $large ne 'too_large';
    tie my @growing, 'Growing';
    my $found = eval { Stokehold::Worker::decode_all(Stokehold::Worker::encode(\@growing), 0) };
    push @problems, "an array that grows: $@" if !$found;
    my $same = Stokehold::Worker::encode({ '' => -0.0 });
    push @problems, 'an empty key and -0.0: ' . unpack 'H*', $same if $same ne "\x81\xa0\xcb\x80\0\0\0\0\0\0\0";
    return @problems;
}

my ($count, $wrong) = (0, 0);
for (judge_values()) {
    $wrong++;
    print "$_\n";
}
while (my $line = <>) {
    chomp $line;
    my ($id, $verdict, $stage, $carrier, $bytes, $message, $spec, $shortest) = split /\t/, $line, -1;
    die "a line has too few fields\n" if !defined $shortest;
    next if $carrier ne 'frames' || $stage eq 'frame';
    $count++;
    my $problem = judge($verdict, $stage, substr(pack('H*', $bytes), 8), $spec, pack 'H*', $shortest) || next;
    $wrong++;
    print "$id [$spec]: $problem\n";
}
print "$count messages, $wrong wrong\n";
exit($wrong || !$count ? 1 : 0);
